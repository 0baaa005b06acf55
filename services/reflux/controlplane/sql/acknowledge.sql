-- A proxy has taken these revisions. One row per node and proxy; it only rises.
INSERT INTO acknowledgements AS a (node, proxy, revision)
SELECT taken.node, %(proxy)s, taken.revision
  FROM unnest(%(nodes)s::text[], %(revisions)s::integer[]) AS taken (node, revision)
 ORDER BY taken.node
ON CONFLICT (node, proxy) DO UPDATE SET revision = EXCLUDED.revision WHERE a.revision < EXCLUDED.revision
