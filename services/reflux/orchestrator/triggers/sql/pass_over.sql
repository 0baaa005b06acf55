-- Firings that shall have no run, by who holds the schedule's shard: a start of one that is still on its way to the
-- database finds its handle taken. One that has a run keeps it.
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = %(shard)s AND fencing_token = %(token)s FOR SHARE
)
INSERT INTO start_keys (scope, key, body_digest, run_id, expires_at)
SELECT %(scope)s, key, body_digest, %(nobody)s::uuid, now() + interval '7 days'
  FROM held, unnest(%(keys)s::text[], %(digests)s::bytea[]) AS passed (key, body_digest)
 ORDER BY key
    ON CONFLICT (scope, key) DO NOTHING
RETURNING key
