-- Lets a schedule go on from this firing, without those that its pause took away; no row when it is not paused, or its
-- rule is another one by now.
UPDATE schedules
   SET paused = false, revision = revision + 1, scheduled_for = %(scheduled_for)s, fire_at = %(fire_at)s,
       given_up_from = %(given_up_from)s, given_up_until = %(given_up_until)s, missed = missed + %(missed)s
 WHERE flow_id = %(flow_id)s AND trigger_id = %(trigger_id)s AND paused AND rule = %(rule)s::jsonb
RETURNING true
