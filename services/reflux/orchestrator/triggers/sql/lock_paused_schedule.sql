-- Where a paused schedule stands, for who lets it go on in this transaction, and the time of asking; no row when it is not
-- paused, or its rule is another one by now.
SELECT scheduled_for, paused_at, given_up_from, given_up_until, clock_timestamp()
  FROM schedules
 WHERE flow_id = %(flow_id)s AND trigger_id = %(trigger_id)s AND paused AND rule = %(rule)s::jsonb
   FOR UPDATE
