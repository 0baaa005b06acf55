-- Stops a schedule, and keeps when; no row when it is paused already, or not there. It may still be moved on past a
-- firing that is being started: whose run is known must not wait for a resume, which may come after its handle is gone.
UPDATE schedules
   SET paused = true, paused_at = now()
 WHERE flow_id = %(flow_id)s AND trigger_id = %(trigger_id)s AND NOT paused
RETURNING true
