-- Runs that a trigger has started by itself and that have not ended, oldest first, for who holds its schedule's shard:
-- a former holder shall not hear of runs that were started after its time, and take them for earlier ones.
SELECT runs.id
  FROM shards, runs
 WHERE shards.id = %(shard)s AND shards.fencing_token = %(token)s
   AND runs.flow_id = %(flow_id)s AND runs.actor = %(actor)s AND runs.actor LIKE 'trigger:%%'
   AND runs.finished_at IS NULL
 ORDER BY runs.id
 LIMIT %(limit)s
