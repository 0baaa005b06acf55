-- Lets a schedule go on with the firing that its rule names next; no row when it is not paused, or its rule is
-- another one by now.
UPDATE schedules
   SET paused = false, revision = revision + 1, scheduled_for = %(scheduled_for)s, fire_at = %(fire_at)s
 WHERE flow_id = %(flow_id)s AND trigger_id = %(trigger_id)s AND paused AND rule = %(rule)s::jsonb
RETURNING true
