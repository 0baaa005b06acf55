-- Gives kept signals to those that wait for them: of each key the oldest one, to every run that waits now and has
-- none on its way; to one step of a run. Alone at a time, under an advisory lock.
-- A signal is on its way while it is in the run's inbox. Once it is folded that is over, whichever step has taken it:
-- the run gives it to the one that waits longest, which need not be the one it was offered to.
-- A run in quarantine hears nothing: signals are kept, for others and for the time when it goes on.
WITH oldest AS MATERIALIZED (
    SELECT DISTINCT ON (name, key) id, name, key, word
      FROM signals
     WHERE run_ids = '{}' AND expires_at > now()
     ORDER BY name, key, id
), pair AS MATERIALIZED (
    SELECT DISTINCT ON (waits.run_id, oldest.id) waits.run_id, waits.step, oldest.id AS signal, oldest.word
      FROM oldest JOIN signal_waits AS waits USING (name, key)
     WHERE NOT EXISTS (SELECT
                         FROM signal_waits AS other
                         JOIN inbox ON inbox.shard = other.shard AND inbox.run_id = other.run_id
                                   AND inbox.signal = other.offered
                        WHERE other.run_id = waits.run_id AND other.name = waits.name AND other.key = waits.key)
       AND NOT EXISTS (SELECT FROM runs
                        WHERE runs.id = waits.run_id AND runs.state = 'PARKED' AND runs.error_reason = 'QUARANTINED')
     ORDER BY waits.run_id, oldest.id, waits.step
), offered AS (
    UPDATE signal_waits AS waits
       SET offered = pair.signal
      FROM pair
     WHERE waits.run_id = pair.run_id AND waits.step = pair.step
 RETURNING waits.run_id, waits.shard, pair.signal, pair.word
), given AS (
    UPDATE signals
       SET run_ids = ARRAY(SELECT offered.run_id FROM offered WHERE offered.signal = signals.id)
     WHERE signals.id IN (SELECT signal FROM offered)
), put AS (
    INSERT INTO inbox (shard, run_id, kind, payload, created_at, signal)
    SELECT shard, run_id, 'signal', word, now(), signal FROM offered
)
SELECT run_id FROM offered
