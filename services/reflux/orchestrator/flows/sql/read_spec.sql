-- The spec of a version, also of a deleted flow: its runs go on.
SELECT f.name, v.spec
  FROM flow_versions v
  JOIN flows f ON f.id = v.flow_id
 WHERE v.flow_id = %(flow_id)s AND v.version = %(version)s
