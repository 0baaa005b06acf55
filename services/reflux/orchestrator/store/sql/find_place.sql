-- Where a queued run stands, which may be paused too: its time if it has one, its key, how many are before it (counted up to a bound), how
-- many wait, how many slots are held of how many, and whether one of them is its own.
SELECT coalesce(slots.start_at, runs.wake_at), slots.key,
       (SELECT count(*)
          FROM (SELECT 1
                  FROM slots AS other
                 WHERE other.flow_id = slots.flow_id AND other.key = slots.key AND NOT other.held
                   AND (other.priority > slots.priority
                        OR (other.priority = slots.priority AND other.id < slots.id))
                 LIMIT %(counted)s - 1) AS before),
       limits.queued, limits.held, limits.slots, slots.held
  FROM runs
  LEFT JOIN slots ON slots.run_id = runs.id
  LEFT JOIN limits ON limits.flow_id = slots.flow_id AND limits.key = slots.key
 WHERE runs.id = %(run_id)s::uuid AND runs.state IN ('QUEUED', 'PAUSED')
