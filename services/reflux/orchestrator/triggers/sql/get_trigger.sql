-- One trigger of a flow.
SELECT t.flow_id, f.name, t.flow_version, t.id, t.method, t.path, t.auth, t.respond, t.created_at
  FROM triggers t
  JOIN flows f ON f.id = t.flow_id
 WHERE t.flow_id = %(flow_id)s::uuid AND t.id = %(trigger_id)s
