-- The specs of some versions of flows, also of deleted ones.
SELECT v.flow_id, v.version, f.name, v.spec
  FROM unnest(%(flow_ids)s::uuid[], %(versions)s::integer[]) AS wanted (flow_id, version)
  JOIN flow_versions v USING (flow_id, version)
  JOIN flows f ON f.id = v.flow_id
