-- A rate is kept whatever it was before. Where times of a faster one came free, the next runs began at once; and where
-- an orchestrator that had not heard of the newest version began the first run of a key, others waited for as long as
-- the rate of before had said.

-- As in 0016, and besides: who is paused in its queue comes sooner too, when it is resumed.
CREATE OR REPLACE FUNCTION come_sooner(run_ids uuid[], starts timestamptz[]) RETURNS void AS $$
BEGIN
    UPDATE turns SET start_at = given.start_at
      FROM unnest(run_ids, starts) AS given (run_id, start_at)
     WHERE turns.run_id = given.run_id;
    WITH sooner AS (
        UPDATE slots SET start_at = given.start_at
          FROM unnest(run_ids, starts) AS given (run_id, start_at)
         WHERE slots.run_id = given.run_id AND slots.start_at > given.start_at
     RETURNING slots.run_id, slots.shard, slots.held
    )
    INSERT INTO inbox (shard, run_id, kind, payload, created_at)
    SELECT sooner.shard, sooner.run_id, 'admitted', '', now() FROM sooner WHERE sooner.held;
    WITH waiting AS MATERIALIZED (
        SELECT runs.id, given.start_at
          FROM unnest(run_ids, starts) AS given (run_id, start_at) JOIN runs ON runs.id = given.run_id
         WHERE runs.state IN ('QUEUED', 'PAUSED') AND runs.wake_at > given.start_at
           FOR UPDATE OF runs SKIP LOCKED
    )
    UPDATE runs SET wake_at = waiting.start_at FROM waiting WHERE runs.id = waiting.id;
END
$$ LANGUAGE plpgsql VOLATILE;

-- As in 0016, and besides: the next run begins at the first time that comes free, if that is late enough by the rate
-- of now for who is before it.
CREATE OR REPLACE FUNCTION release_turns(ended uuid[]) RETURNS void AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    run_ids uuid[];
    starts timestamptz[];
BEGIN
    PERFORM FROM rates
      WHERE (rates.flow_id, rates.key) IN (SELECT turns.flow_id, turns.key FROM turns
                                            WHERE turns.run_id = ANY (ended) AND turns.start_at > moment)
      ORDER BY rates.flow_id, rates.key
        FOR UPDATE;
    WITH gone AS (
        SELECT turns.flow_id, turns.key, count(*) AS number
          FROM turns
         WHERE turns.run_id = ANY (ended) AND turns.start_at > moment
         GROUP BY turns.flow_id, turns.key
    ), ahead AS (
        SELECT turns.* FROM turns JOIN gone USING (flow_id, key) WHERE turns.start_at > moment
    ), times AS (
        SELECT ahead.flow_id, ahead.key, ahead.start_at,
               row_number() OVER (PARTITION BY ahead.flow_id, ahead.key ORDER BY ahead.start_at) AS place
          FROM ahead
    ), waiting AS (
        SELECT ahead.*,
               row_number() OVER (PARTITION BY ahead.flow_id, ahead.key ORDER BY ahead.start_at, ahead.run_id) AS place
          FROM ahead
         WHERE ahead.run_id <> ALL (ended)
    ), freed AS (
        SELECT times.flow_id, times.key, max(times.start_at) FILTER (WHERE times.place <= kept.number) AS last,
               min(times.start_at) FILTER (WHERE times.place > kept.number) AS free
          FROM times JOIN (SELECT gone.flow_id, gone.key, count(*) - gone.number AS number
                             FROM gone JOIN ahead USING (flow_id, key)
                            GROUP BY gone.flow_id, gone.key, gone.number) AS kept USING (flow_id, key)
         GROUP BY times.flow_id, times.key
    ), given_back AS (
        UPDATE rates
           SET full_at = least(rates.full_at,
                               greatest(freed.free - make_interval(secs => rates.period / rates.runs / 1e6), freed.last)
                               + make_interval(secs => rates.period / 1e6))
          FROM freed
         WHERE rates.flow_id = freed.flow_id AND rates.key = freed.key AND rates.runs IS NOT NULL
    )
    SELECT array_agg(waiting.run_id), array_agg(times.start_at) INTO run_ids, starts
      FROM waiting JOIN times USING (flow_id, key, place)
     WHERE times.start_at < waiting.start_at;
    DELETE FROM turns WHERE turns.run_id = ANY (ended);
    IF run_ids IS NOT NULL THEN
        PERFORM come_sooner(run_ids, starts);
    END IF;
END
$$ LANGUAGE plpgsql VOLATILE;

-- As in 0016, and besides: all locks of rates come before the first row of `slots`. Who moves up by a rate may have its
-- slot under any key: whoever ends it just now would hold its row, and wait for the rate.
CREATE OR REPLACE FUNCTION release_slots(ended uuid[]) RETURNS uuid[] AS $$
DECLARE
    flow_ids uuid[];
    keys text[];
    handed uuid[];
BEGIN
    PERFORM FROM limits
      WHERE (limits.flow_id, limits.key) IN (SELECT slots.flow_id, slots.key FROM slots WHERE run_id = ANY (ended))
      ORDER BY limits.flow_id, limits.key
        FOR UPDATE;
    PERFORM FROM rates
      WHERE (rates.flow_id, rates.key) IN (SELECT turns.flow_id, turns.key FROM turns
                                            WHERE turns.run_id = ANY (ended) AND turns.start_at > clock_timestamp())
      ORDER BY rates.flow_id, rates.key
        FOR UPDATE;
    WITH gone AS (
        DELETE FROM slots WHERE run_id = ANY (ended) RETURNING slots.flow_id, slots.key, slots.held
    ), given AS (
        SELECT gone.flow_id, gone.key, count(*) FILTER (WHERE gone.held) AS held,
               count(*) FILTER (WHERE NOT gone.held) AS queued
          FROM gone GROUP BY gone.flow_id, gone.key
    ), counted AS (
        UPDATE limits SET held = limits.held - given.held, queued = limits.queued - given.queued
          FROM given
         WHERE limits.flow_id = given.flow_id AND limits.key = given.key
     RETURNING limits.flow_id, limits.key
    )
    SELECT array_agg(counted.flow_id), array_agg(counted.key) INTO flow_ids, keys FROM counted;
    PERFORM release_turns(ended);
    handed := hand_slots(flow_ids, keys, '{}');
    DELETE FROM limits
     USING unnest(flow_ids, keys) AS looked (flow_id, key)
     WHERE limits.flow_id = looked.flow_id AND limits.key = looked.key AND limits.held = 0 AND limits.queued = 0;
    RETURN handed;
END
$$ LANGUAGE plpgsql VOLATILE;

-- As in 0016, and besides: what an older version has used up of a rate is owed for one period of the newest at most.
CREATE OR REPLACE FUNCTION admit_runs(
    run_ids uuid[], flow_ids uuid[], shards integer[], scopes text[], handles text[], priorities integer[],
    slot_keys text[], slot_limits integer[], slot_overflows text[],
    rate_keys text[], rate_limits bigint[], rate_periods bigint[], rate_overflows text[], versions integer[]
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
    -- Where an older version starts a run, what is known stays: this only locks it.
    INSERT INTO limits AS known (flow_id, key, slots, version)
    SELECT DISTINCT ON (one.flow_id, one.key COLLATE "C") one.flow_id, one.key, one.slots, one.version
      FROM unnest(flow_ids, slot_keys, slot_limits, versions) WITH ORDINALITY
           AS one (flow_id, key, slots, version, place)
     WHERE one.key IS NOT NULL
     ORDER BY one.flow_id, one.key COLLATE "C", one.version DESC, one.place DESC
        ON CONFLICT (flow_id, key) DO UPDATE
       SET slots = CASE WHEN excluded.version >= known.version THEN excluded.slots ELSE known.slots END,
           version = greatest(excluded.version, known.version);
    INSERT INTO rates AS known (flow_id, key, full_at, runs, period, version)
    SELECT DISTINCT ON (one.flow_id, one.key COLLATE "C")
           one.flow_id, one.key, '-infinity'::timestamptz, one.runs, one.period, one.version
      FROM unnest(flow_ids, rate_keys, rate_limits, rate_periods, versions) WITH ORDINALITY
           AS one (flow_id, key, runs, period, version, place)
     WHERE one.key IS NOT NULL
     ORDER BY one.flow_id, one.key COLLATE "C", one.version DESC, one.place DESC
        ON CONFLICT (flow_id, key) DO UPDATE
       SET full_at = CASE WHEN known.runs IS NULL OR excluded.version <= known.version
                            OR (known.runs, known.period) = (excluded.runs, excluded.period) THEN known.full_at
                          ELSE least(known.full_at,
                                     clock_timestamp() + make_interval(secs => excluded.period / 1e6)) END,
           runs = CASE WHEN known.runs IS NULL OR excluded.version >= known.version
                       THEN excluded.runs ELSE known.runs END,
           period = CASE WHEN known.runs IS NULL OR excluded.version >= known.version
                         THEN excluded.period ELSE known.period END,
           version = greatest(excluded.version, known.version);
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
                             rate_keys, rate_limits, rate_periods, rate_overflows, versions) WITH ORDINALITY
            AS one (run_id, flow_id, shard, priority, slot_key, slot_limit, slot_overflow,
                    rate_key, rate_limit, rate_period, rate_overflow, version, place)
         WHERE one.rate_key IS NOT NULL OR one.slot_overflow <> 'queue'
         ORDER BY one.place
    LOOP
        start_at := NULL;
        IF asked.rate_key IS NOT NULL THEN
            SELECT greatest(rates.full_at, moment) + make_interval(secs => rates.period / rates.runs / 1e6) AS full_at,
                   make_interval(secs => rates.period / 1e6) AS period INTO known
              FROM rates WHERE rates.flow_id = asked.flow_id AND rates.key = asked.rate_key;
            next_full := known.full_at;
            start_at := next_full - known.period;
            IF start_at <= moment THEN
                start_at := NULL;
            ELSIF asked.rate_overflow = 'reject' THEN
                verdicts[asked.place] := 'rate';
                starts[asked.place] := start_at;
                CONTINUE;
            END IF;
        END IF;
        IF asked.slot_key IS NOT NULL THEN
            SELECT limits.held + limits.queued AS taken, limits.slots, limits.version INTO known
              FROM limits WHERE limits.flow_id = asked.flow_id AND limits.key = asked.slot_key;
            IF asked.slot_overflow = 'reject' AND known.taken >= known.slots THEN
                verdicts[asked.place] := 'concurrency';
                CONTINUE;
            END IF;
            INSERT INTO slots (run_id, flow_id, key, shard, priority, held, start_at)
            VALUES (asked.run_id, asked.flow_id, asked.slot_key, asked.shard, asked.priority, false, start_at);
            UPDATE limits SET queued = queued + 1
             WHERE limits.flow_id = asked.flow_id AND limits.key = asked.slot_key;
            IF asked.slot_overflow = 'cancel_oldest' AND asked.version = known.version THEN
                PERFORM ask_oldest_to_end(asked.flow_id, asked.slot_key);
            END IF;
        END IF;
        IF asked.rate_key IS NOT NULL THEN
            UPDATE rates SET full_at = next_full
             WHERE rates.flow_id = asked.flow_id AND rates.key = asked.rate_key;
        END IF;
        IF start_at IS NOT NULL THEN
            INSERT INTO turns (run_id, flow_id, key, start_at)
            VALUES (asked.run_id, asked.flow_id, asked.rate_key, start_at);
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
           slots.run_id IS NOT NULL OR one.start_at IS NOT NULL
      FROM unnest(run_ids, verdicts, starts) AS one (run_id, verdict, start_at)
      LEFT JOIN slots ON slots.run_id = one.run_id;
END
$$ LANGUAGE plpgsql VOLATILE;

COMMENT ON COLUMN schedules.revision IS 'Rises when the rule changes, and with each resume.';
