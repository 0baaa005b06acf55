-- Schedules that are due, or will be within `ahead`, in shards that are still held under these tokens, and the
-- time of asking. Nothing is taken away by asking. What the owner has in hand is left out: schedules that cannot
-- start their runs now, however many, keep nobody else from being seen.
SELECT s.flow_id, s.trigger_id, s.flow_version, s.shard, s.revision, s.rule, s.scheduled_for, s.fire_at, now(),
       s.given_up_from, s.given_up_until
  FROM schedules s
  JOIN shards ON shards.id = s.shard
  JOIN unnest(%(shards)s::integer[], %(tokens)s::bigint[]) AS lease (id, fencing_token)
       ON lease.id = shards.id AND lease.fencing_token = shards.fencing_token
 WHERE NOT s.paused AND s.fire_at <= now() + %(ahead)s
   AND (s.flow_id, s.trigger_id) NOT IN (
       SELECT * FROM unnest(%(busy_flows)s::uuid[], %(busy_triggers)s::text[]))
 ORDER BY s.fire_at
 LIMIT %(limit)s
