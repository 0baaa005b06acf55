-- The triggers of a flow's new version. Fails with a unique violation when another flow has one of the paths.
-- In the order of their paths, so that two flows that want the same ones wait for each other in one direction.
INSERT INTO triggers (flow_id, id, flow_version, type, method, path, auth, respond, title, description, form, created_at)
SELECT %(flow_id)s, id, %(flow_version)s, type, method, path, auth, respond, title, description, form,
       coalesce(created_at, clock_timestamp())
  FROM unnest(%(ids)s::text[], %(types)s::text[], %(methods)s::text[], %(paths)s::text[], %(auths)s::text[],
              %(responds)s::text[], %(titles)s::text[], %(descriptions)s::text[], %(forms)s::text[],
              %(created)s::timestamptz[])
       AS declared (id, type, method, path, auth, respond, title, description, form, created_at)
 ORDER BY method, path
