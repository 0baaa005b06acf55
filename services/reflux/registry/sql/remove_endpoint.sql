-- Take an endpoint out of the catalog; an unknown one changes nothing.
WITH removed AS (
    DELETE FROM endpoints WHERE id = %(id)s RETURNING id
)
UPDATE catalog SET revision = revision + 1 WHERE EXISTS (SELECT FROM removed)
RETURNING revision
