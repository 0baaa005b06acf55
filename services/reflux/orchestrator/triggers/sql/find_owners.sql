-- Which flows that are not deleted have these methods and paths.
SELECT method, path, t.flow_id, f.name, t.id, t.flow_version
  FROM unnest(%(methods)s::text[], %(paths)s::text[]) AS wanted (method, path)
  JOIN triggers t USING (method, path)
  JOIN flows f ON f.id = t.flow_id AND f.deleted_at IS NULL
 ORDER BY method, path
