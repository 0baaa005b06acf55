-- Moves a schedule on after its firings were dealt with, once: by the holder of its shard, from where it was looked
-- at. No row: it was changed, paused, moved or taken away meanwhile.
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = %(shard)s AND fencing_token = %(token)s FOR SHARE
)
UPDATE schedules
   SET scheduled_for = %(scheduled_for)s,
       fire_at = %(fire_at)s,
       last_scheduled_for = coalesce(%(last_scheduled_for)s, last_scheduled_for),
       last_fire_at = coalesce(%(last_fire_at)s, last_fire_at),
       last_run_id = coalesce(%(last_run_id)s::uuid, last_run_id),
       error_scheduled_for = CASE WHEN %(keep_error)s THEN error_scheduled_for ELSE %(error_scheduled_for)s END,
       error_reason = CASE WHEN %(keep_error)s THEN error_reason ELSE %(error_reason)s END,
       error_message = CASE WHEN %(keep_error)s THEN error_message ELSE %(error_message)s END,
       error_at = CASE WHEN %(keep_error)s THEN error_at WHEN %(error_reason)s::text IS NULL THEN NULL ELSE now() END,
       fired = fired + %(fired)s,
       skipped = skipped + %(skipped)s,
       missed = missed + %(missed)s,
       failed = failed + %(failed)s
  FROM held
 WHERE shard = held.id
   AND flow_id = %(flow_id)s AND trigger_id = %(trigger_id)s
   AND revision = %(revision)s AND scheduled_for = %(was)s
RETURNING true
