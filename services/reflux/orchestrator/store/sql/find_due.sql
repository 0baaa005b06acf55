-- What is due in some shards that are still held under these tokens: runs whose time has come (or comes within
-- `ahead`), and words, each kind at most `limit`. Words come oldest first. Runs come by turns of their flows, within
-- a flow the higher priority first: the `window` oldest are looked at for that, so a flow whose runs all came after
-- so many of others waits until some of those are in hand. What the owner has in hand is left out.
-- Words for a run in quarantine wait until somebody ends it or lets it go on: to look at it for less may kill again;
-- but signals that others may take go back to them, and to this run when it goes on, and a pause that came just
-- before goes: it would stop the run that somebody has let go on.
-- Words for finished runs are deleted instead, because nobody will fold them; signals that others may take go back to
-- them, and such a run waits for none. Words for a run that is not there wait a minute for it to begin (a child that
-- is recalled with its parent's end), then they go too: it is forgotten (a child may outlive its parent).
WITH held AS MATERIALIZED (
    SELECT shards.id
      FROM shards JOIN unnest(%(shards)b, %(tokens)b) AS lease (id, fencing_token) USING (id, fencing_token)
), stale AS (
    DELETE FROM inbox
     USING held
     WHERE inbox.shard = held.id
       AND coalesce((SELECT runs.finished_at IS NOT NULL
                            OR ((inbox.signal IS NOT NULL OR inbox.kind = 'pause') AND runs.state = 'PARKED'
                                AND coalesce(runs.error_reason = 'QUARANTINED', false))
                       FROM runs WHERE runs.id = inbox.run_id),
                    inbox.created_at < now() - interval '1 minute')
 RETURNING inbox.id, inbox.run_id, inbox.signal
), back AS (
    UPDATE signals
       SET run_ids = ARRAY(SELECT unnest(signals.run_ids) EXCEPT
                           SELECT stale.run_id FROM stale WHERE stale.signal = signals.id)
     WHERE signals.id IN (SELECT signal FROM stale)  -- once, however many runs give it back
), deaf AS (
    DELETE FROM signal_waits
     USING stale
     WHERE signal_waits.run_id = stale.run_id AND stale.signal IS NOT NULL
       AND NOT EXISTS (SELECT FROM runs WHERE runs.id = stale.run_id AND runs.finished_at IS NULL)
), come AS (
    SELECT runs.id, runs.shard, runs.wake_at, runs.flow_id, runs.priority
      FROM runs JOIN held ON runs.shard = held.id
     WHERE runs.wake_at <= now() + %(ahead)s
       AND NOT EXISTS (SELECT FROM unnest(%(loaded)b) AS loaded (id) WHERE loaded.id = runs.id)
     ORDER BY runs.wake_at
     LIMIT %(window)s
), timers AS (
    SELECT id, shard, wake_at,
           row_number() OVER (PARTITION BY flow_id ORDER BY priority DESC, wake_at) AS turn, priority
      FROM come
     ORDER BY turn, priority DESC, wake_at
     LIMIT %(limit)s
), words AS (
    SELECT inbox.id, inbox.shard, inbox.run_id, inbox.kind, inbox.payload, inbox.created_at, inbox.signal
      FROM inbox JOIN held ON inbox.shard = held.id
     WHERE NOT EXISTS (SELECT FROM stale WHERE stale.id = inbox.id)
       AND NOT EXISTS (SELECT FROM unnest(%(taken)b) AS taken (id) WHERE taken.id = inbox.id)
       AND (SELECT inbox.kind IN ('cancel', 'terminate', 'resume')
                   OR NOT (runs.state = 'PARKED' AND coalesce(runs.error_reason = 'QUARANTINED', false))
              FROM runs WHERE runs.id = inbox.run_id)
     ORDER BY inbox.id
     LIMIT %(limit)s
)
(SELECT id AS run_id, shard, wake_at AS at, NULL AS word, NULL AS kind, NULL AS payload, NULL AS signal
   FROM timers ORDER BY turn, priority DESC, wake_at)
 UNION ALL
SELECT run_id, shard, created_at, id, kind, payload, signal FROM words
