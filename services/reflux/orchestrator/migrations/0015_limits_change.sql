-- What a new version of a flow says of its limits holds at once, also for runs that wait already: they get the slots
-- that there are more of, and where they have a time by a rate, none later than the new one would give them, whatever
-- their keys are. `allowed` is NULL for a version without a limit of concurrency, and `pace`, from one run to the next,
-- is 0 for one without a rate: then all of them begin. Nobody is asked to end for a smaller limit, or to wait longer.
--
-- A run that waits for its time alone has it in its row, which nobody writes meanwhile: its owner has it in memory
-- for the last seconds at most. What is being written just now begins, ends or pauses, and is left alone; so nobody is
-- waited for who holds a row of `runs` and wants one of `limits`.
CREATE FUNCTION change_limits(changed uuid, allowed integer, pace interval) RETURNS void AS $$
DECLARE
    keys text[];
    moment timestamptz := clock_timestamp();
BEGIN
    WITH waiting AS MATERIALIZED (
        SELECT runs.id, runs.wake_at
          FROM runs
         WHERE runs.flow_id = changed AND runs.state = 'QUEUED' AND NOT runs.limited AND runs.wake_at > moment
           FOR UPDATE SKIP LOCKED
    ), given AS (
        SELECT waiting.id, moment + pace * row_number() OVER (ORDER BY waiting.wake_at, waiting.id) AS wake_at
          FROM waiting
    )
    UPDATE runs SET wake_at = given.wake_at FROM given WHERE runs.id = given.id AND runs.wake_at > given.wake_at;

    PERFORM FROM limits WHERE limits.flow_id = changed ORDER BY limits.key FOR UPDATE;
    WITH given AS (
        SELECT slots.run_id, moment + pace * row_number() OVER (ORDER BY slots.start_at, slots.id) AS start_at
          FROM slots
         WHERE slots.flow_id = changed AND slots.start_at > moment
    ), sooner AS (
        UPDATE slots SET start_at = given.start_at
          FROM given
         WHERE slots.run_id = given.run_id AND slots.start_at > given.start_at
     RETURNING slots.run_id, slots.shard, slots.held
    )
    INSERT INTO inbox (shard, run_id, kind, payload, created_at)
    SELECT sooner.shard, sooner.run_id, 'admitted', '', now() FROM sooner WHERE sooner.held;
    WITH said AS (
        UPDATE limits SET slots = coalesce(allowed, 2147483647) WHERE limits.flow_id = changed RETURNING limits.key
    )
    SELECT array_agg(said.key) INTO keys FROM said;
    IF keys IS NOT NULL THEN
        PERFORM hand_slots(array_fill(changed, ARRAY[cardinality(keys)]), keys, '{}');
    END IF;
END
$$ LANGUAGE plpgsql VOLATILE;
COMMENT ON COLUMN limits.slots IS 'What the newest start or version said.';
