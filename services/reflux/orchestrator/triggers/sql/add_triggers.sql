-- The triggers of a flow's new version. Fails with a unique violation when another flow has one of the paths.
-- In the order of their paths, so that two flows that want the same ones wait for each other in one direction.
INSERT INTO triggers (flow_id, id, flow_version, method, path, auth, respond, created_at)
SELECT %(flow_id)s, id, %(flow_version)s, method, path, auth, respond, coalesce(created_at, clock_timestamp())
  FROM unnest(%(ids)s::text[], %(methods)s::text[], %(paths)s::text[], %(auths)s::text[], %(responds)s::text[],
              %(created)s::timestamptz[])
       AS declared (id, method, path, auth, respond, created_at)
 ORDER BY method, path
