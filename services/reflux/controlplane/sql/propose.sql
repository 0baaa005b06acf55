-- Add a revision as PENDING and lead proxies to it, unless the caller saw another one (0: any).
WITH head AS (
    INSERT INTO routes AS r (node, newest, serving)
    SELECT %(node)s, 1, 1
     WHERE %(expected)s = 0 OR EXISTS (SELECT FROM routes WHERE node = %(node)s)
    ON CONFLICT (node) DO UPDATE SET newest = r.newest + 1, serving = r.newest + 1
     WHERE %(expected)s IN (0, r.serving)
    RETURNING newest
)
INSERT INTO route_revisions (node, revision, document, author, note, contracts_ignored)
SELECT %(node)s, newest, %(document)s, %(author)s, %(note)s, %(contracts_ignored)s FROM head
RETURNING revision
