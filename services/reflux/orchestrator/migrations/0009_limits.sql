-- How many runs of a flow and key go on at once, how often they begin, and who waits for that.
--
-- What is true under a lock must be read after the lock was taken, and a statement reads what was there when it
-- began. So whatever changes slots is a VOLATILE function of PL/pgSQL, called by the one statement that begins
-- runs or records their end: its inner statements each see what is committed by then, and it is all one
-- transaction with the rest. A slot is taken with its run's row and given back with its run's end, or neither.
--
-- Locks: rows of `limits` (by flow and key), then rows of `rates` (by flow and key). Rows of `slots` are only
-- touched under the lock of their row in `limits`. Rows of other orchestrators' runs are never touched: who gets a
-- slot, or must go, is told through the inbox.

ALTER TABLE runs DROP CONSTRAINT runs_state_check;
ALTER TABLE runs ADD CONSTRAINT runs_state_check
    CHECK (state IN ('QUEUED', 'RUNNING', 'CANCELING', 'PAUSED', 'SUCCEEDED', 'FAILED', 'CANCELED', 'PARKED'));
ALTER TABLE runs ADD COLUMN priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9);
ALTER TABLE runs ADD COLUMN limited boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN runs.limited IS 'It has a row in slots, until its end.';
COMMENT ON COLUMN runs.wake_at IS
    'Its owner takes it into memory then at the latest; NULL: it is there, PARKED, finished, or QUEUED for a slot.';

-- One row per flow and key with a run in `slots`: the lock, and the counts of its rows there.
CREATE TABLE limits (
    flow_id uuid    NOT NULL,
    key     text    NOT NULL COLLATE "C",
    slots   integer NOT NULL CHECK (slots > 0),
    held    integer NOT NULL DEFAULT 0 CHECK (held >= 0),
    queued  integer NOT NULL DEFAULT 0 CHECK (queued >= 0),
    PRIMARY KEY (flow_id, key)
) WITH (fillfactor = 50);
COMMENT ON COLUMN limits.slots IS 'What the newest start said.';

-- One row per unfinished run of a flow with a limit of concurrency: it holds a slot, or waits for one. It goes in
-- the statement that records the run's end, whoever owns the run then: a dead orchestrator's runs keep theirs.
CREATE TABLE slots (
    run_id   uuid        PRIMARY KEY,
    flow_id  uuid        NOT NULL,
    key      text        NOT NULL COLLATE "C",
    shard    integer     NOT NULL,
    id       bigint      GENERATED ALWAYS AS IDENTITY,
    priority smallint    NOT NULL,
    held     boolean     NOT NULL,
    told     boolean     NOT NULL DEFAULT false,
    start_at timestamptz
);
COMMENT ON COLUMN slots.id IS 'The order of acceptance.';
COMMENT ON COLUMN slots.told IS 'It was asked to end for the sake of a newer one.';
COMMENT ON COLUMN slots.start_at IS 'Not before; what the rate said.';
CREATE INDEX slots_queue ON slots (flow_id, key, priority DESC, id) WHERE NOT held;
CREATE INDEX slots_untold ON slots (flow_id, key, id) WHERE NOT told;

-- The rate of a flow and key, as GCRA keeps it (ITU-T I.371): the time at which nothing of it is used up.
CREATE TABLE rates (
    flow_id uuid        NOT NULL,
    key     text        NOT NULL COLLATE "C",
    full_at timestamptz NOT NULL,
    PRIMARY KEY (flow_id, key)
) WITH (fillfactor = 50);
CREATE INDEX rates_full ON rates (full_at);

-- Gives free slots of these keys, which are locked, to the first in their queues, and tells all but `known`.
-- Answers who got one.
CREATE FUNCTION hand_slots(flow_ids uuid[], keys text[], known uuid[]) RETURNS uuid[] AS $$
DECLARE
    got uuid[];
BEGIN
    WITH free AS (
        SELECT limits.flow_id, limits.key, limits.slots - limits.held AS places
          FROM limits JOIN unnest(flow_ids, keys) AS wanted (flow_id, key) USING (flow_id, key)
         WHERE limits.slots > limits.held AND limits.queued > 0
    ), next AS (
        SELECT first.run_id
          FROM free
         CROSS JOIN LATERAL (
            SELECT slots.run_id
              FROM slots
             WHERE slots.flow_id = free.flow_id AND slots.key = free.key AND NOT slots.held AND NOT slots.told
             ORDER BY slots.priority DESC, slots.id
             LIMIT free.places
         ) AS first
    ), handed AS (
        UPDATE slots SET held = true FROM next WHERE slots.run_id = next.run_id
     RETURNING slots.run_id, slots.flow_id, slots.key, slots.shard, slots.start_at
    ), counted AS (
        UPDATE limits SET held = limits.held + given.number, queued = limits.queued - given.number
          FROM (SELECT flow_id, key, count(*) AS number FROM handed GROUP BY flow_id, key) AS given
         WHERE limits.flow_id = given.flow_id AND limits.key = given.key
    ), told AS (
        INSERT INTO inbox (shard, run_id, kind, payload, created_at)
        SELECT shard, run_id, 'admitted', '', now() FROM handed WHERE run_id <> ALL (known)
    )
    SELECT coalesce(array_agg(handed.run_id), '{}') INTO got FROM handed;
    RETURN got;
END
$$ LANGUAGE plpgsql VOLATILE;

-- The slots of runs that end, or their places in the queue. Answers who got a slot.
CREATE FUNCTION release_slots(ended uuid[]) RETURNS uuid[] AS $$
DECLARE
    flow_ids uuid[];
    keys text[];
    handed uuid[];
BEGIN
    PERFORM FROM limits
      WHERE (limits.flow_id, limits.key) IN (SELECT slots.flow_id, slots.key FROM slots WHERE run_id = ANY (ended))
      ORDER BY limits.flow_id, limits.key
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
    handed := hand_slots(flow_ids, keys, '{}');
    DELETE FROM limits
     USING unnest(flow_ids, keys) AS looked (flow_id, key)
     WHERE limits.flow_id = looked.flow_id AND limits.key = looked.key AND limits.held = 0 AND limits.queued = 0;
    RETURN handed;
END
$$ LANGUAGE plpgsql VOLATILE;

-- Asks the oldest runs of a key to end, as many as it has more than slots.
CREATE FUNCTION ask_oldest_to_end(asked_flow uuid, asked_key text) RETURNS void AS $$
BEGIN
    WITH oldest AS (
        SELECT slots.run_id
          FROM slots
         WHERE slots.flow_id = asked_flow AND slots.key = asked_key AND NOT slots.told
         ORDER BY slots.id
         LIMIT (SELECT greatest(0, count(*) - (SELECT limits.slots FROM limits
                                                WHERE limits.flow_id = asked_flow AND limits.key = asked_key))
                  FROM slots WHERE slots.flow_id = asked_flow AND slots.key = asked_key AND NOT slots.told)
    ), told AS (
        UPDATE slots SET told = true FROM oldest WHERE slots.run_id = oldest.run_id
     RETURNING slots.run_id, slots.shard
    )
    INSERT INTO inbox (shard, run_id, kind, payload, created_at)
    SELECT shard, run_id, 'cancel',
           convert_to('{"actor": "policies.concurrency", "reason": "a newer run of its key takes its place"}', 'UTF8'),
           now()
      FROM told;
END
$$ LANGUAGE plpgsql VOLATILE;

-- What becomes of new runs of limited flows, in the order in which they come. All arrays are of one length; a run
-- without a slot_key or a rate_key (NULL) has no limit of that kind. Times are in microseconds.
-- `verdict`: 'begin', 'queue' (until wake_at, if that is known), 'concurrency' or 'rate': refused for it, and
-- its start-once handle is free again; then wake_at says when to come again, if that is known.
CREATE FUNCTION admit_runs(
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
    INSERT INTO rates AS known (flow_id, key, full_at)
    SELECT DISTINCT one.flow_id, one.key COLLATE "C", '-infinity'::timestamptz
      FROM unnest(flow_ids, rate_keys) AS one (flow_id, key)
     WHERE one.key IS NOT NULL
     ORDER BY 1, 2
        ON CONFLICT (flow_id, key) DO UPDATE SET full_at = known.full_at;
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
                   + make_interval(secs => asked.rate_period / 1e6 / asked.rate_limit)
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
