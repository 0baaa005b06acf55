-- One page of the runs of a shard that whoever takes it will look at: those that are due within 5 s (`start_runs`
-- sets that for a new run), those that have no time and neither wait for a person nor for a slot, and those that
-- somebody has a word for. `due` are the ones that belong in its owner's memory; the others come there by themselves.
-- Those that wait are not even looked at: who has a time to wake at has not finished (a constraint), and saying so
-- would only offer another index. Nor are runs in quarantine, but for the words that `find_due` shows of them. Runs
-- with words are looked up one by one (OFFSET 0), never searched for.
-- Each counts the death of its former owner, if that is why it comes: before anything of the run is read, so that
-- a run that kills its reader is counted too, whatever it is read for. The last one of `most` is not counted here: a
-- run has it from `try_run`, which says that its owner was looking at it. Who was not interrupted by a death looks
-- at it again.
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = %(shard)s AND fencing_token = %(token)s FOR SHARE
), told AS MATERIALIZED (
    SELECT inbox.run_id AS id, inbox.shard, bool_or(inbox.kind IN ('cancel', 'terminate', 'resume')) AS wakes
      FROM inbox JOIN held ON inbox.shard = held.id
     WHERE inbox.run_id > %(after)s::uuid
     GROUP BY inbox.run_id, inbox.shard
), page AS (
    SELECT runs.id, runs.recoveries, runs.flow_id, runs.priority, runs.state NOT IN ('PARKED', 'QUEUED') AS due
      FROM runs JOIN held ON runs.shard = held.id
     WHERE runs.wake_at <= now() + interval '5 seconds'
       AND runs.id > %(after)s::uuid
     UNION ALL
    SELECT runs.id, runs.recoveries, runs.flow_id, runs.priority, true
      FROM runs JOIN held ON runs.shard = held.id
     WHERE runs.wake_at IS NULL
       AND runs.finished_at IS NULL
       AND runs.state NOT IN ('PARKED', 'QUEUED')
       AND runs.id > %(after)s::uuid
     UNION ALL
    SELECT told.id, run.recoveries, run.flow_id, run.priority, false
      FROM told
     CROSS JOIN LATERAL (SELECT * FROM runs WHERE runs.id = told.id AND runs.shard = told.shard OFFSET 0) AS run
     WHERE run.finished_at IS NULL
       AND (run.wake_at > now() + interval '5 seconds'
            OR (run.wake_at IS NULL AND run.state IN ('PARKED', 'QUEUED')))
       AND (told.wakes OR run.state <> 'PARKED' OR run.error_reason IS DISTINCT FROM 'QUARANTINED')
     ORDER BY id
     LIMIT %(limit)s
), adopted AS (
    UPDATE runs
       SET recoveries = CASE WHEN %(died)s THEN greatest(runs.recoveries, least(runs.recoveries + 1, %(most)s - 1))
                             ELSE %(most)s - 1 END
      FROM page
     WHERE runs.id = page.id AND (%(died)s OR (page.due AND page.recoveries >= %(most)s))
 RETURNING runs.id, runs.recoveries
)
SELECT id, coalesce(adopted.recoveries, page.recoveries), page.flow_id, page.priority, page.due
  FROM page LEFT JOIN adopted USING (id)
 ORDER BY id
