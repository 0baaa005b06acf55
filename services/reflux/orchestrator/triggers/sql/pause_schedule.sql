-- Stops a schedule, and keeps when; no row when it is paused already, or not there.
UPDATE schedules
   SET paused = true, paused_at = now(), revision = revision + 1
 WHERE flow_id = %(flow_id)s AND trigger_id = %(trigger_id)s AND NOT paused
RETURNING true
