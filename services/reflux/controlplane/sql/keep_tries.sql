-- Keeps tries, in bulk.
INSERT INTO tries (call, leaf, endpoint, started_at, took_us, code, flags)
SELECT * FROM unnest(
    %(calls)s::text[], %(leaves)s::text[], %(endpoints)s::text[], %(started)s::timestamptz[],
    %(took)s::bigint[], %(codes)s::text[], %(flags)s::text[]
)
