-- One revision of a route.
SELECT node, revision, document, author, note, created_at, state, refusal, contracts_ignored
  FROM route_revisions
 WHERE node = %(node)s AND revision = %(revision)s
