-- A page of triggers by name of the flow and id, of one flow or of all.
SELECT t.flow_id, f.name, t.flow_version, t.id, t.method, t.path, t.auth, t.respond, t.created_at
  FROM triggers t
  JOIN flows f ON f.id = t.flow_id
 WHERE (%(flow_id)s::uuid IS NULL OR t.flow_id = %(flow_id)s::uuid)
   AND (f.name, t.id) > (%(after_name)s, %(after_id)s)
 ORDER BY f.name, t.id
 LIMIT %(limit)s
