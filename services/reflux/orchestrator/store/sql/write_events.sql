-- One batch of the journal: events, the rows of their runs, the words that were folded into them, the words that
-- they say to other runs of their shards, and which steps wait for a signal under a key (a row without a name:
-- not any more).
-- A row names its lease by its place in `shards`/`tokens`. Leases that are not held any more yield nothing, and
-- so do the rows under them.
-- A finished run stays as it finished, whatever is written later. What it held of its flow's slots is given on in
-- this very statement; if none of the runs that end here was limited, nothing is asked (see the migration
-- `limits`).
-- The oldest and the newest run say again what `run_ids` do, for partitions that have none of them: without that
-- every commit would look into all of them.
-- Answers which leases are held, the time of recording, and which runs got a slot.
-- Of what others write, only the shard row and the limits of flows and keys are locked, and only while this
-- statement runs: a takeover waits for it, no longer.
WITH held AS MATERIALIZED (
    SELECT lease.place, shards.id AS shard
      FROM shards
      JOIN unnest(%(shards)b, %(tokens)b) WITH ORDINALITY AS lease (id, fencing_token, place)
           USING (id, fencing_token)
     ORDER BY shards.id
       FOR SHARE OF shards
), recorded AS (
    INSERT INTO journal (run_id, seq, recorded_at, payload)
    SELECT event.run_id, event.seq, now(), event.payload
      FROM unnest(%(event_leases)b, %(event_runs)b, %(event_seqs)b, %(event_payloads)b)
           AS event (place, run_id, seq, payload)
      JOIN held USING (place)
), moved AS (
    UPDATE runs
       SET state = new.state,
           wake_at = new.wake_at,
           finished_at = new.finished_at,
           recoveries = CASE WHEN new.progressed THEN 0 ELSE recoveries END,
           error_code = new.error_code,
           error_reason = new.error_reason,
           error_message = new.error_message,
           error_step = new.error_step,
           error_fingerprint = new.error_fingerprint
      FROM unnest(%(run_leases)b, %(run_ids)b, %(run_states)b, %(run_wakes)b, %(run_finishes)b,
                  %(run_progresses)b, %(error_codes)b, %(error_reasons)b, %(error_messages)b, %(error_steps)b,
                  %(error_fingerprints)b)
           AS new (place, id, state, wake_at, finished_at,
                   progressed, error_code, error_reason, error_message, error_step, error_fingerprint)
      JOIN held USING (place)
     WHERE runs.id = new.id AND runs.shard = held.shard AND runs.finished_at IS NULL
       AND runs.id BETWEEN %(oldest_run)s::uuid AND %(newest_run)s::uuid
 RETURNING runs.id, runs.limited AND runs.finished_at IS NOT NULL AS frees
), handed AS MATERIALIZED (
    SELECT release_slots(one.run_ids) AS run_ids
      FROM (SELECT array_agg(id) AS run_ids FROM moved WHERE frees HAVING count(*) > 0) AS one
), folded AS (
    DELETE FROM inbox
     USING unnest(%(word_leases)b, %(word_runs)b, %(word_ids)b) AS word (place, run_id, id)
      JOIN held USING (place)
     WHERE inbox.shard = held.shard AND inbox.run_id = word.run_id AND inbox.id = word.id
), told AS (
    INSERT INTO inbox (shard, run_id, kind, payload, created_at)
    SELECT held.shard, word.run_id, word.kind, word.payload, now()
      FROM unnest(%(tell_leases)b, %(tell_runs)b, %(tell_kinds)b, %(tell_payloads)b)
           AS word (place, run_id, kind, payload)
      JOIN held USING (place)
), wait AS MATERIALIZED (
    SELECT wait.run_id, wait.step, held.shard, wait.name, wait.key
      FROM unnest(%(wait_leases)b, %(wait_runs)b, %(wait_steps)b, %(wait_names)b, %(wait_keys)b)
           AS wait (place, run_id, step, name, key)
      JOIN held USING (place)
), begun AS (
    INSERT INTO signal_waits (run_id, step, shard, name, key)
    SELECT run_id, step, shard, name, key FROM wait WHERE name IS NOT NULL
        ON CONFLICT DO NOTHING
), over AS (
    DELETE FROM signal_waits
     USING wait
     WHERE wait.name IS NULL AND signal_waits.run_id = wait.run_id AND signal_waits.step = wait.step
)
SELECT place, now(), (SELECT run_ids FROM handed) FROM held
