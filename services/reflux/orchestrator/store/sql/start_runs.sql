-- New runs: the start-once handle, the run's row and its first event, under the lease of the run's shard.
-- A handle is taken once; one that has expired is taken over. Handles are inserted in order, so that two
-- orchestrators with the same ones wait for each other in one direction only.
-- A new run is due in 5 s: if whoever began it goes away before it takes it on (the caller hung up, the answer got
-- lost), the poll finds it; who has it in memory says so when it polls. One that must wait for a limit of its flow
-- is QUEUED instead: due at the time that the rate gives it, or when a word says that it has a slot.
-- Only runs of limited flows stand in the columns of `claim`; without one, nothing is asked (see the migration
-- `limits`).
-- Answers which leases are held, which runs were made, and what became of the limited ones. A run that was not
-- made under a held lease, nor refused, lost its handle to another one, which only a later statement can see.
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
                  %(flow_versions)b, %(actors)b, %(created)b, %(payloads)b, %(priorities)b,
                  %(search_keys)b, %(triggers)b, %(origins)b, %(operations)b, %(tests)b)
           AS request (place, run_id, scope, key, body_digest, flow_id, flow_name,
                       flow_version, actor, created_at, payload, priority,
                       search_key, trigger_id, origin_run, operation, test)
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
), claim AS MATERIALIZED (
    SELECT claim.*, request.flow_id, request.shard, request.scope, request.key, request.priority
      FROM unnest(%(claim_runs)b, %(slot_keys)b, %(slot_limits)b, %(slot_overflows)b,
                  %(rate_keys)b, %(rate_limits)b, %(rate_periods)b, %(rate_overflows)b,
                  %(claim_versions)b, %(queued_tails)b) WITH ORDINALITY
           AS claim (run_id, slot_key, slot_limit, slot_overflow,
                     rate_key, rate_limit, rate_period, rate_overflow, version, queued_tail, place)
      JOIN request USING (run_id)
     WHERE request.key IS NULL OR run_id IN (SELECT run_id FROM taken)
), verdict AS MATERIALIZED (
    SELECT answer.run_id, answer.verdict, answer.wake_at, answer.limited
      FROM (SELECT array_agg(run_id ORDER BY place) AS run_ids, array_agg(flow_id ORDER BY place) AS flow_ids,
                   array_agg(shard ORDER BY place) AS shards, array_agg(scope ORDER BY place) AS scopes,
                   array_agg(key ORDER BY place) AS keys, array_agg(priority ORDER BY place) AS priorities,
                   array_agg(slot_key ORDER BY place) AS slot_keys,
                   array_agg(slot_limit ORDER BY place) AS slot_limits,
                   array_agg(slot_overflow ORDER BY place) AS slot_overflows,
                   array_agg(rate_key ORDER BY place) AS rate_keys,
                   array_agg(rate_limit ORDER BY place) AS rate_limits,
                   array_agg(rate_period ORDER BY place) AS rate_periods,
                   array_agg(rate_overflow ORDER BY place) AS rate_overflows,
                   array_agg(version ORDER BY place) AS versions
              FROM claim HAVING count(*) > 0) AS one,
           admit_runs(one.run_ids, one.flow_ids, one.shards, one.scopes, one.keys, one.priorities,
                      one.slot_keys, one.slot_limits, one.slot_overflows,
                      one.rate_keys, one.rate_limits, one.rate_periods, one.rate_overflows, one.versions)
           AS answer
), fresh AS MATERIALIZED (
    SELECT request.*, coalesce(verdict.verdict = 'queue', false) AS queues, verdict.wake_at,
           coalesce(verdict.limited, false) AS limited, claim.queued_tail
      FROM request LEFT JOIN verdict USING (run_id) LEFT JOIN claim USING (run_id)
     WHERE (request.key IS NULL OR run_id IN (SELECT run_id FROM taken))
       AND coalesce(verdict.verdict, 'begin') IN ('begin', 'queue')
), begun AS (
    INSERT INTO runs (id, shard, flow_id, flow_name, flow_version, state, actor, created_at, priority, limited,
                      wake_at, search_key, trigger_id, origin_run, operation, test)
    SELECT run_id, shard, flow_id, flow_name, flow_version, CASE WHEN queues THEN 'QUEUED' ELSE 'RUNNING' END,
           actor, created_at, priority, limited,
           CASE WHEN queues THEN wake_at ELSE now() + interval '5 seconds' END,
           search_key, trigger_id, origin_run, operation, test
      FROM fresh
 RETURNING id
), recorded AS (
    INSERT INTO journal (run_id, seq, recorded_at, payload)
    SELECT run_id, 1, now(), CASE WHEN queues THEN payload || queued_tail ELSE payload END
      FROM fresh
)
SELECT ARRAY(SELECT place FROM held), ARRAY(SELECT id FROM begun), now(),
       ARRAY(SELECT run_id FROM verdict ORDER BY run_id),
       ARRAY(SELECT verdict.verdict FROM verdict ORDER BY run_id),
       ARRAY(SELECT wake_at FROM verdict ORDER BY run_id)
