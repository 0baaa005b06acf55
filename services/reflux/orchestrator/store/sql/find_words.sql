-- The words for one run of a shard, oldest first; nothing under a token that is not current any more.
SELECT inbox.id, inbox.kind, inbox.payload, inbox.created_at, inbox.signal
  FROM inbox JOIN shards ON shards.id = inbox.shard
 WHERE shards.id = %(shard)s AND shards.fencing_token = %(token)s AND inbox.run_id = %(run_id)s::uuid
 ORDER BY inbox.id
