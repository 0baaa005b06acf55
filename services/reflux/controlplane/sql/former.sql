-- What a revision took over from: the newest one before it that no proxy refused.
SELECT node, revision, document, author, note, created_at, state, refusal, contracts_ignored
  FROM route_revisions
 WHERE node = %(node)s AND revision < %(revision)s AND state <> 'REJECTED'
 ORDER BY revision DESC
 LIMIT 1
