-- One page of groups of failures that are the same, by fingerprint: how many runs, the first and the newest of them.
-- Tests fail on purpose, and are left out. Read in the order of runs_by_fingerprint, so a page reads the runs of its own groups and no others. A uuid has no
-- max() before PostgreSQL 18, but as text it sorts the same.
WITH groups AS (
    SELECT error_fingerprint, count(*) AS runs, min(id::text)::uuid AS first, max(id::text)::uuid AS newest
      FROM runs
     WHERE error_fingerprint > %(after)s::text COLLATE "C"
       AND NOT test
       AND (%(flow_id)s::uuid IS NULL OR flow_id = %(flow_id)s::uuid)
       AND (%(created_from)s::timestamptz IS NULL
            OR (id >= %(first_id)s::uuid AND created_at >= %(created_from)s::timestamptz))
       AND (%(created_before)s::timestamptz IS NULL
            OR (id <= %(last_id)s::uuid AND created_at < %(created_before)s::timestamptz))
     GROUP BY error_fingerprint
     ORDER BY error_fingerprint
     LIMIT %(limit)s
)
SELECT groups.error_fingerprint, groups.runs, oldest.created_at,
       runs.id, shard, flow_id, flow_name, flow_version, state, actor, runs.created_at, finished_at, wake_at, recoveries,
       error_code, error_reason, error_message, error_step, runs.error_fingerprint, search_key, trigger_id, origin_run,
       operation, test
  FROM groups
  JOIN runs ON runs.id = groups.newest
  JOIN (SELECT id, created_at FROM runs) AS oldest ON oldest.id = groups.first
 ORDER BY groups.error_fingerprint
