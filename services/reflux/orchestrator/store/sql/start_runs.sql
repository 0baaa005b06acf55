-- New runs: the start-once handle, the run's row and its first event, under the lease of the run's shard.
-- A handle is taken once; one that has expired is taken over. Handles are inserted in order, so that two
-- orchestrators with the same ones wait for each other in one direction only.
-- A new run is due in 5 s: if whoever began it goes away before it takes it on (the caller hung up, the answer got
-- lost), the poll finds it; who has it in memory says so when it polls.
-- Answers which leases are held and which runs were made. A run that was not made under a held lease lost its
-- handle to another one, which only a later statement can see.
WITH held AS MATERIALIZED (
    SELECT lease.place, shards.id AS shard
      FROM shards
      JOIN unnest(%(shards)b, %(tokens)b) WITH ORDINALITY AS lease (id, fencing_token, place)
           USING (id, fencing_token)
     ORDER BY shards.id
       FOR SHARE OF shards
), request AS MATERIALIZED (
    SELECT *
      FROM unnest(%(leases)b, %(run_ids)b, %(scopes)b, %(keys)b, %(digests)b, %(flow_ids)b, %(flow_names)b,
                  %(flow_versions)b, %(actors)b, %(created)b, %(payloads)b,
                  %(search_keys)b, %(triggers)b, %(origins)b, %(operations)b)
           AS request (place, run_id, scope, key, body_digest, flow_id, flow_name,
                       flow_version, actor, created_at, payload,
                       search_key, trigger_id, origin_run, operation)
      JOIN held USING (place)
), taken AS (
    INSERT INTO start_keys AS known (scope, key, body_digest, run_id, expires_at)
    SELECT scope, key, body_digest, run_id, now() + interval '7 days'
      FROM request
     WHERE key IS NOT NULL
     ORDER BY scope, key
        ON CONFLICT (scope, key) DO UPDATE
       SET body_digest = excluded.body_digest, run_id = excluded.run_id, expires_at = excluded.expires_at
     WHERE known.expires_at <= now()
 RETURNING known.run_id
), begun AS (
    INSERT INTO runs (id, shard, flow_id, flow_name, flow_version, state, actor, created_at, wake_at,
                      search_key, trigger_id, origin_run, operation)
    SELECT run_id, shard, flow_id, flow_name, flow_version, 'RUNNING', actor, created_at,
           now() + interval '5 seconds', search_key, trigger_id, origin_run, operation
      FROM request
     WHERE key IS NULL OR run_id IN (SELECT run_id FROM taken)
 RETURNING id
), recorded AS (
    INSERT INTO journal (run_id, seq, recorded_at, payload)
    SELECT run_id, 1, now(), payload
      FROM request
     WHERE key IS NULL OR run_id IN (SELECT run_id FROM taken)
)
SELECT ARRAY(SELECT place FROM held), ARRAY(SELECT id FROM begun), now()
