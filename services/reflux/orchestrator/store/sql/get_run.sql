-- One run's row.
SELECT id, shard, flow_id, flow_name, flow_version, state, actor, created_at, finished_at, wake_at, recoveries,
       error_code, error_reason, error_message, error_step, error_fingerprint, search_key, trigger_id, origin_run,
       operation, test
  FROM runs
 WHERE id = %(run_id)s::uuid
