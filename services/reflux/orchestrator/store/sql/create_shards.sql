-- Makes the shards when the database is first used. Two orchestrators that do it at once make the same rows.
INSERT INTO shards (id)
SELECT generate_series(0, %(shards)s::integer - 1)
 WHERE NOT EXISTS (SELECT FROM shards)
    ON CONFLICT DO NOTHING
