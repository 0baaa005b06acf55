-- What is due in some shards that are still held under these tokens: runs whose time has come (or comes within
-- `ahead`), and words, each kind oldest first and at most `limit`. What the owner has in hand is left out.
-- Words for finished runs are deleted instead, because nobody will fold them; signals that others may take go
-- back to them.
WITH held AS MATERIALIZED (
    SELECT shards.id
      FROM shards JOIN unnest(%(shards)b, %(tokens)b) AS lease (id, fencing_token) USING (id, fencing_token)
), stale AS (
    DELETE FROM inbox
     USING held, runs
     WHERE inbox.shard = held.id AND runs.id = inbox.run_id AND runs.finished_at IS NOT NULL
 RETURNING inbox.id, inbox.run_id, inbox.signal
), back AS (
    UPDATE signals
       SET run_ids = array_remove(signals.run_ids, stale.run_id)
      FROM stale
     WHERE signals.id = stale.signal
), timers AS (
    SELECT runs.id, runs.shard, runs.wake_at
      FROM runs JOIN held ON runs.shard = held.id
     WHERE runs.wake_at <= now() + %(ahead)s
       AND NOT EXISTS (SELECT FROM unnest(%(loaded)b) AS loaded (id) WHERE loaded.id = runs.id)
     ORDER BY runs.wake_at
     LIMIT %(limit)s
), words AS (
    SELECT inbox.id, inbox.shard, inbox.run_id, inbox.kind, inbox.payload, inbox.created_at, inbox.signal
      FROM inbox JOIN held ON inbox.shard = held.id
     WHERE NOT EXISTS (SELECT FROM stale WHERE stale.id = inbox.id)
       AND NOT EXISTS (SELECT FROM unnest(%(taken)b) AS taken (id) WHERE taken.id = inbox.id)
     ORDER BY inbox.id
     LIMIT %(limit)s
)
SELECT id AS run_id, shard, wake_at AS at, NULL AS word, NULL AS kind, NULL AS payload, NULL AS signal
  FROM timers
 UNION ALL
SELECT run_id, shard, created_at, id, kind, payload, signal FROM words
