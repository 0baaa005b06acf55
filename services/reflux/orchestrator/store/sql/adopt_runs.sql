-- One page of a shard's runs that belong in its owner's memory: not finished, not parked, not waiting for a time
-- that is more than 5 s ahead (`start_runs` sets that for a new run), or for a word (the year 9999).
-- Those that wait are not even looked at: who has a time to wake at has not finished (a constraint), and saying so
-- would only offer another index.
-- Each counts the death of its former owner, if that is why it comes: before anything of the run is read, so that
-- a run that kills its reader is counted too.
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = %(shard)s AND fencing_token = %(token)s FOR SHARE
), page AS (
    SELECT runs.id, runs.recoveries
      FROM runs JOIN held ON runs.shard = held.id
     WHERE runs.wake_at <= now() + interval '5 seconds'
       AND runs.state <> 'PARKED'
       AND runs.id > %(after)s::uuid
     UNION ALL
    SELECT runs.id, runs.recoveries
      FROM runs JOIN held ON runs.shard = held.id
     WHERE runs.wake_at IS NULL
       AND runs.finished_at IS NULL
       AND runs.state <> 'PARKED'
       AND runs.id > %(after)s::uuid
     ORDER BY id
     LIMIT %(limit)s
), adopted AS (
    UPDATE runs
       SET recoveries = runs.recoveries + 1
      FROM page
     WHERE runs.id = page.id AND %(died)s
 RETURNING runs.id, runs.recoveries
)
SELECT id, coalesce(adopted.recoveries, page.recoveries)
  FROM page LEFT JOIN adopted USING (id)
 ORDER BY id
