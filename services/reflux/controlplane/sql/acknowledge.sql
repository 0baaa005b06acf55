-- A proxy has taken these revisions. One row per node and proxy; it only rises. Of a revision that was refused
-- meanwhile nothing is written down: its proxies are led back and must take another one.
INSERT INTO acknowledgements AS a (node, proxy, revision)
SELECT taken.node, %(proxy)s, taken.revision
  FROM unnest(%(nodes)s::text[], %(revisions)s::integer[]) AS taken (node, revision)
  JOIN route_revisions v USING (node, revision)
 WHERE v.state = 'PENDING'
 ORDER BY taken.node
ON CONFLICT (node, proxy) DO UPDATE SET revision = EXCLUDED.revision WHERE a.revision < EXCLUDED.revision
