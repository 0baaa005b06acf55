-- A run of which one more death of its owner will be held against it is about to be taken up: from now on its row
-- says so. Nothing happens under a token that is not current any more, nor if it has got further meanwhile.
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = %(shard)s AND fencing_token = %(token)s FOR SHARE
)
UPDATE runs
   SET recoveries = %(most)s
  FROM held
 WHERE runs.id = %(run_id)s::uuid AND runs.shard = held.id
   AND runs.recoveries = %(most)s - 1 AND runs.finished_at IS NULL
RETURNING runs.recoveries
