-- What a rate has promised for later is worth nothing under another one: a new rate counts from its first start.
-- Runs that wait already keep the times that they were given. `runs` and `period` (in microseconds) are NULL where
-- nothing has started since an older release, and are then taken to be what the next start says.
ALTER TABLE rates ADD COLUMN runs bigint, ADD COLUMN period bigint;
COMMENT ON COLUMN rates.runs IS 'Runs in a period, as the newest start said.';

-- As in 0009, and besides: a rate that changed forgets what it owed beyond one period; a burst is as many runs as the
-- rate says, whatever the shares of a period round to; a key of which every run was refused leaves no row behind.
CREATE OR REPLACE FUNCTION admit_runs(
    run_ids uuid[], flow_ids uuid[], shards integer[], scopes text[], handles text[], priorities integer[],
    slot_keys text[], slot_limits integer[], slot_overflows text[],
    rate_keys text[], rate_limits bigint[], rate_periods bigint[], rate_overflows text[]
) RETURNS TABLE (run_id uuid, verdict text, wake_at timestamptz, limited boolean) AS $$
#variable_conflict use_column
DECLARE
    asked record;
    known record;
    moment timestamptz;
    next_full timestamptz;
    start_at timestamptz;
    verdicts text[] := array_fill('begin'::text, ARRAY[cardinality(run_ids)]);
    starts timestamptz[] := array_fill(NULL::timestamptz, ARRAY[cardinality(run_ids)]);
BEGIN
    INSERT INTO limits AS known (flow_id, key, slots)
    SELECT DISTINCT ON (one.flow_id, one.key COLLATE "C") one.flow_id, one.key, one.slots
      FROM unnest(flow_ids, slot_keys, slot_limits) WITH ORDINALITY AS one (flow_id, key, slots, place)
     WHERE one.key IS NOT NULL
     ORDER BY one.flow_id, one.key COLLATE "C", one.place DESC
        ON CONFLICT (flow_id, key) DO UPDATE SET slots = excluded.slots;
    INSERT INTO rates AS known (flow_id, key, full_at, runs, period)
    SELECT DISTINCT ON (one.flow_id, one.key COLLATE "C")
           one.flow_id, one.key, '-infinity'::timestamptz, one.runs, one.period
      FROM unnest(flow_ids, rate_keys, rate_limits, rate_periods) WITH ORDINALITY
           AS one (flow_id, key, runs, period, place)
     WHERE one.key IS NOT NULL
     ORDER BY one.flow_id, one.key COLLATE "C", one.place DESC
        ON CONFLICT (flow_id, key) DO UPDATE
       SET full_at = CASE WHEN known.runs IS NULL OR (known.runs, known.period) = (excluded.runs, excluded.period)
                          THEN known.full_at
                          ELSE least(known.full_at,
                                     clock_timestamp() + make_interval(secs => excluded.period / 1e6)) END,
           runs = excluded.runs,
           period = excluded.period;
    moment := clock_timestamp();  -- after the wait for the locks

    -- Most runs ask for nothing but a slot, and wait if there is none: all of them at once.
    WITH waiting AS (
        INSERT INTO slots (run_id, flow_id, key, shard, priority, held)
        SELECT one.run_id, one.flow_id, one.slot_key, one.shard, one.priority, false
          FROM unnest(run_ids, flow_ids, shards, priorities, slot_keys, slot_overflows, rate_keys) WITH ORDINALITY
               AS one (run_id, flow_id, shard, priority, slot_key, slot_overflow, rate_key, place)
         WHERE one.slot_key IS NOT NULL AND one.slot_overflow = 'queue' AND one.rate_key IS NULL
         ORDER BY one.place
     RETURNING slots.flow_id, slots.key
    )
    UPDATE limits SET queued = limits.queued + given.number
      FROM (SELECT waiting.flow_id, waiting.key, count(*) AS number FROM waiting GROUP BY 1, 2) AS given
     WHERE limits.flow_id = given.flow_id AND limits.key = given.key;

    -- What becomes of the others depends on those before them.
    FOR asked IN
        SELECT * FROM unnest(run_ids, flow_ids, shards, priorities, slot_keys, slot_limits, slot_overflows,
                             rate_keys, rate_limits, rate_periods, rate_overflows) WITH ORDINALITY
            AS one (run_id, flow_id, shard, priority, slot_key, slot_limit, slot_overflow,
                    rate_key, rate_limit, rate_period, rate_overflow, place)
         WHERE one.rate_key IS NOT NULL OR one.slot_overflow <> 'queue'
         ORDER BY one.place
    LOOP
        start_at := NULL;
        IF asked.rate_key IS NOT NULL THEN
            SELECT greatest(rates.full_at, moment)
                   + make_interval(secs => asked.rate_period / asked.rate_limit / 1e6)
              INTO next_full
              FROM rates WHERE rates.flow_id = asked.flow_id AND rates.key = asked.rate_key;
            start_at := next_full - make_interval(secs => asked.rate_period / 1e6);
            IF start_at <= moment THEN
                start_at := NULL;
            ELSIF asked.rate_overflow = 'reject' THEN
                verdicts[asked.place] := 'rate';
                starts[asked.place] := start_at;
                CONTINUE;
            END IF;
        END IF;
        IF asked.slot_key IS NOT NULL THEN
            SELECT limits.held + limits.queued AS taken, limits.slots INTO known
              FROM limits WHERE limits.flow_id = asked.flow_id AND limits.key = asked.slot_key;
            IF asked.slot_overflow = 'reject' AND known.taken >= known.slots THEN
                verdicts[asked.place] := 'concurrency';
                CONTINUE;
            END IF;
            INSERT INTO slots (run_id, flow_id, key, shard, priority, held, start_at)
            VALUES (asked.run_id, asked.flow_id, asked.slot_key, asked.shard, asked.priority, false, start_at);
            UPDATE limits SET queued = queued + 1
             WHERE limits.flow_id = asked.flow_id AND limits.key = asked.slot_key;
            IF asked.slot_overflow = 'cancel_oldest' THEN
                PERFORM ask_oldest_to_end(asked.flow_id, asked.slot_key);
            END IF;
        END IF;
        IF asked.rate_key IS NOT NULL THEN
            UPDATE rates SET full_at = next_full
             WHERE rates.flow_id = asked.flow_id AND rates.key = asked.rate_key;
        END IF;
        starts[asked.place] := start_at;
    END LOOP;

    PERFORM hand_slots(array_agg(one.flow_id), array_agg(one.key), run_ids)
       FROM (SELECT DISTINCT pair.flow_id, pair.key FROM unnest(flow_ids, slot_keys) AS pair (flow_id, key)
              WHERE pair.key IS NOT NULL) AS one
     HAVING count(*) > 0;
    DELETE FROM limits
     USING unnest(flow_ids, slot_keys) AS one (flow_id, key)
     WHERE limits.flow_id = one.flow_id AND limits.key = one.key AND limits.held = 0 AND limits.queued = 0;
    DELETE FROM start_keys
     USING unnest(scopes, handles, run_ids, verdicts) AS one (scope, key, run_id, verdict)
     WHERE start_keys.scope = one.scope AND start_keys.key = one.key AND start_keys.run_id = one.run_id
       AND one.verdict IN ('concurrency', 'rate');
    RETURN QUERY
    SELECT one.run_id,
           CASE WHEN one.verdict <> 'begin' THEN one.verdict
                WHEN NOT coalesce(slots.held, true) OR one.start_at IS NOT NULL THEN 'queue'
                ELSE 'begin' END,
           CASE WHEN coalesce(slots.held, true) THEN one.start_at END,
           slots.run_id IS NOT NULL
      FROM unnest(run_ids, verdicts, starts) AS one (run_id, verdict, start_at)
      LEFT JOIN slots ON slots.run_id = one.run_id;
END
$$ LANGUAGE plpgsql VOLATILE;
