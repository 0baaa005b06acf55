-- A key of the platform, made with `fresh` if nobody has made it yet.
WITH made AS (
    INSERT INTO platform_keys (name, key) VALUES (%(name)s, %(fresh)s) ON CONFLICT DO NOTHING RETURNING key
)
SELECT key FROM made
 UNION ALL
SELECT key FROM platform_keys WHERE name = %(name)s
 LIMIT 1
