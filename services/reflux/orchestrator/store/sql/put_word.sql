-- Leaves a word for a run that has not finished. Answers the run's state, its shard, and the word's id if it was
-- left. A run that finishes at this very moment may leave the word behind: `find_due` deletes it.
WITH run AS (
    SELECT id, shard, state, finished_at FROM runs WHERE id = %(run_id)s::uuid
), word AS (
    INSERT INTO inbox (shard, run_id, kind, payload, created_at)
    SELECT shard, id, %(kind)s, %(payload)s, now()
      FROM run
     WHERE finished_at IS NULL
 RETURNING id
)
SELECT run.state, run.shard, (SELECT id FROM word) FROM run
