-- The revisions of a route before one of them, newest first, refused ones included.
SELECT node, revision, document, author, note, created_at, state, refusal, contracts_ignored
  FROM route_revisions
 WHERE node = %(node)s AND revision < %(before)s
 ORDER BY revision DESC
 LIMIT %(limit)s
