-- A page of triggers by name of the flow and id, of one flow or of all.
SELECT t.flow_id, f.name, t.flow_version, t.id, t.type, t.method, t.path, t.auth, t.respond, t.created_at,
       t.title, t.description, '',
       s.rule, s.catchup, s.overlap, s.paused, s.scheduled_for, s.fire_at,
       s.last_scheduled_for, s.last_fire_at, s.last_run_id,
       s.error_scheduled_for, s.error_reason, s.error_message, s.error_at,
       s.fired, s.skipped, s.missed, s.failed
  FROM triggers t
  JOIN flows f ON f.id = t.flow_id
  LEFT JOIN schedules s ON s.flow_id = t.flow_id AND s.trigger_id = t.id
 WHERE (%(flow_id)s::uuid IS NULL OR t.flow_id = %(flow_id)s::uuid)
   AND (f.name, t.id) > (%(after_name)s, %(after_id)s)
 ORDER BY f.name, t.id
 LIMIT %(limit)s
