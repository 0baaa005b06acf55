-- A run did not take a signal: its word leaves the inbox, the signal goes back to the others when no other run has
-- it, and the step can be offered another one. Nothing happens under a lease that is not held any more.
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = %(shard)s AND fencing_token = %(token)s FOR SHARE
), gone AS (
    DELETE FROM inbox
     USING held
     WHERE inbox.shard = held.id AND inbox.run_id = %(run_id)s::uuid AND inbox.id = %(word)s
 RETURNING inbox.run_id, inbox.signal
), back AS (
    UPDATE signals
       SET run_ids = array_remove(signals.run_ids, gone.run_id)
      FROM gone
     WHERE signals.id = gone.signal
)
UPDATE signal_waits
   SET offered = NULL
  FROM gone
 WHERE signal_waits.run_id = gone.run_id AND signal_waits.offered = gone.signal
