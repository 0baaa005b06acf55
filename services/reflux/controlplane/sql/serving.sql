-- Every route that proxies are led to, by node, or that of one node; and where its newest update stands.
SELECT r.node, v.revision, v.document, v.author, v.note, v.created_at, v.state, v.refusal, v.contracts_ignored,
       n.state, n.refusal
  FROM routes r
  JOIN route_revisions v ON v.node = r.node AND v.revision = r.serving
  JOIN route_revisions n ON n.node = r.node AND n.revision = r.newest
 WHERE %(node)s::text IS NULL OR r.node = %(node)s
 ORDER BY r.node
