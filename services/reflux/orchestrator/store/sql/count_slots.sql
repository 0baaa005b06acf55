-- Slots that are held and runs that wait for one, of all flows and keys: one row of `limits` each.
SELECT coalesce(sum(held), 0)::bigint, coalesce(sum(queued), 0)::bigint FROM limits
