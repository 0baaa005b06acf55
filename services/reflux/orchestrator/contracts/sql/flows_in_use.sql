-- The versions of flows that may call a node: the current one of each flow, those that unfinished runs go on with,
-- also of deleted flows, and those that one of these names as name@version. A superset: its name stands somewhere
-- in the spec. Names of nodes are constants, and JSON has one spelling for their characters.
WITH RECURSIVE used (flow_id, version) AS (
    SELECT id, current_version FROM flows WHERE deleted_at IS NULL
    UNION
    SELECT flow_id, flow_version FROM runs WHERE finished_at IS NULL
    UNION
    SELECT f.id, named.parts[2]::integer
      FROM used u
      JOIN flow_versions v ON v.flow_id = u.flow_id AND v.version = u.version
     CROSS JOIN LATERAL regexp_matches(convert_from(v.spec, 'UTF8'), '"flow":"([a-z][a-z0-9._-]*)@([1-9][0-9]{0,8})"', 'g')
           AS named (parts)
      JOIN flows f ON f.name = named.parts[1] AND f.deleted_at IS NULL
)
SELECT f.id, f.name, v.version
  FROM used u
  JOIN flow_versions v ON v.flow_id = u.flow_id AND v.version = u.version
  JOIN flows f ON f.id = v.flow_id
 WHERE position(convert_to(%(node)s, 'UTF8') IN v.spec) > 0
 ORDER BY f.name, v.version, f.id
