-- A page of flows by name, without their documents.
SELECT f.id, f.name, f.current_version, f.created_at, v.digest, v.description, v.created_at
  FROM flows f
  JOIN flow_versions v ON v.flow_id = f.id AND v.version = f.current_version
 WHERE f.deleted_at IS NULL AND f.name > %(after_name)s
 ORDER BY f.name
 LIMIT %(limit)s
