-- A flow by id or name, with one of its versions: the current one when none is asked for. A deleted flow is found by
-- its id, with the version that is asked for.
SELECT f.id, f.name, f.created_at,
       v.version, v.digest, v.description, v.spec, v.ui, v.author, v.created_at
  FROM flows f
  JOIN flow_versions v
    ON v.flow_id = f.id AND v.version = coalesce(%(version)s::integer, f.current_version)
 WHERE (f.id = %(id)s AND (f.deleted_at IS NULL OR %(version)s::integer IS NOT NULL))
    OR (f.name = %(name)s AND f.deleted_at IS NULL)
