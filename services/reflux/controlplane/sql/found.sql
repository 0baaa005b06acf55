-- Give a node its first route, unless it has one.
WITH head AS (
    INSERT INTO routes (node, newest, serving) VALUES (%(node)s, 1, 1)
    ON CONFLICT (node) DO NOTHING
    RETURNING newest
)
INSERT INTO route_revisions (node, revision, document, author, note)
SELECT %(node)s, newest, %(document)s, %(author)s, %(note)s FROM head
