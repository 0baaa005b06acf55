-- Partitions of `runs` and `journal` by time: made ahead, dropped whole when what is in them is to be forgotten.
--
-- A span of time has a partition of both tables, made and dropped in one transaction, or of neither: then
-- its runs are in the DEFAULT partitions. `name` is the first day of the span, YYYYMMDD in UTC.
--
-- Each act is a function, so that it is ONE statement for its caller: a caller that is paused or killed in the
-- middle of it leaves no lock and nothing half done. Whoever waits for one of these locks keeps everybody who comes
-- later waiting too, so nobody here waits for longer than `lock_timeout`; the caller comes again. That is less
-- than `deadlock_timeout`, so a writer that waits for us while we wait for it is never the one who must give up.
-- One act at a time in the whole database: the others answer 'busy'.

-- The next free lock, or not.
CREATE FUNCTION keep_partitions() RETURNS boolean LANGUAGE sql AS $$
    SELECT pg_try_advisory_xact_lock(x'7265666C75785F70'::bigint)
$$;

-- Makes the partitions of [first, bound). What DEFAULT holds of the span moves into them, if it is at most `most`
-- runs and 20 times as many events; more would stop everybody for too long, so the span is left to DEFAULT.
-- `present`: runs may begin in the span at this very moment, so they must be kept away while it is cut out; otherwise
-- only who is about to write to DEFAULT is.
-- 'made', 'busy', 'taken' (there is a table of that name), 'left'.
CREATE FUNCTION make_partition(name text, first uuid, bound uuid, present boolean, most integer) RETURNS text
LANGUAGE plpgsql SET lock_timeout = '250ms' SET search_path FROM CURRENT AS $$
DECLARE
    crowd  bigint;
    events bigint;
BEGIN
    IF NOT keep_partitions() THEN
        RETURN 'busy';
    END IF;
    IF to_regclass('runs_' || name) IS NOT NULL OR to_regclass('journal_' || name) IS NOT NULL THEN
        RETURN 'taken';
    END IF;
    SELECT count(*) INTO crowd
      FROM (SELECT FROM runs_default WHERE id >= first AND id < bound LIMIT most + 1) AS held;
    SELECT count(*) INTO events
      FROM (SELECT FROM journal_default WHERE run_id >= first AND run_id < bound LIMIT 20 * most + 1) AS held;
    IF crowd > most OR events > 20 * most THEN
        RETURN 'left';
    END IF;

    EXECUTE format('CREATE TABLE runs_%s (LIKE runs INCLUDING ALL) WITH (fillfactor = 80)', name);
    EXECUTE format('CREATE TABLE journal_%s (LIKE journal INCLUDING ALL)', name);
    IF present OR crowd > 0 OR events > 0 THEN
        -- Every statement of ours names these, so from here on nobody is in any partition.
        LOCK TABLE ONLY runs, ONLY journal IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM runs_default WHERE id >= $1 AND id < $2 RETURNING *)
             INSERT INTO runs_%s SELECT * FROM moved', name) USING first, bound;
        EXECUTE format(
            'WITH moved AS (DELETE FROM journal_default WHERE run_id >= $1 AND run_id < $2 RETURNING *)
             INSERT INTO journal_%s SELECT * FROM moved', name) USING first, bound;
    END IF;
    EXECUTE format('ALTER TABLE runs ATTACH PARTITION runs_%s FOR VALUES FROM (%L) TO (%L)', name, first, bound);
    EXECUTE format('ALTER TABLE journal ATTACH PARTITION journal_%s FOR VALUES FROM (%L) TO (%L)', name, first, bound);
    RETURN 'made';
END
$$;

-- Attaching a partition reads DEFAULT to see that nothing in it belongs there, and keeps writers out meanwhile. This
-- constraint says so beforehand; validating it reads DEFAULT too, but stands in nobody's way. Only for spans of
-- which nothing is written yet: what belongs there is refused while the fence stands.
CREATE FUNCTION fence_default(first uuid, bound uuid) RETURNS void
LANGUAGE plpgsql SET lock_timeout = '250ms' SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE runs_default ADD CONSTRAINT fence CHECK (NOT (id IS NOT NULL AND id >= %L AND id < %L)) NOT VALID',
        first, bound);
    EXECUTE format(
        'ALTER TABLE journal_default ADD CONSTRAINT fence'
        ' CHECK (NOT (run_id IS NOT NULL AND run_id >= %L AND run_id < %L)) NOT VALID', first, bound);
END
$$;

CREATE FUNCTION validate_fence() RETURNS void
LANGUAGE plpgsql SET lock_timeout = '250ms' SET search_path FROM CURRENT AS $$
BEGIN
    ALTER TABLE runs_default VALIDATE CONSTRAINT fence;
    ALTER TABLE journal_default VALIDATE CONSTRAINT fence;
END
$$;

CREATE FUNCTION unfence_default() RETURNS void
LANGUAGE plpgsql SET lock_timeout = '250ms' SET search_path FROM CURRENT AS $$
BEGIN
    ALTER TABLE runs_default DROP CONSTRAINT IF EXISTS fence;
    ALTER TABLE journal_default DROP CONSTRAINT IF EXISTS fence;
END
$$;

-- Drops the partitions of a span, with their runs; answers what came of it and how many runs are forgotten.
-- Runs that have not ended, or only after `ended_before`, move to DEFAULT first, if they are at most `most` with at most
-- 20 times as many events; more would stop everybody for too long, so then nothing happens.
-- 'dropped', 'busy', 'crowded', 'gone' (there is no such partition).
CREATE FUNCTION drop_partition(name text, ended_before timestamptz, most integer, OUT outcome text, OUT forgotten bigint)
LANGUAGE plpgsql SET lock_timeout = '250ms' SET search_path FROM CURRENT AS $$
DECLARE
    stay   uuid[];
    events bigint;
BEGIN
    forgotten := 0;
    IF NOT keep_partitions() THEN
        outcome := 'busy';
        RETURN;
    END IF;
    IF to_regclass('runs_' || name) IS NULL OR to_regclass('journal_' || name) IS NULL THEN
        outcome := 'gone';
        RETURN;
    END IF;
    -- Looked at without a lock, because it reads the whole partition.
    EXECUTE format(
        'SELECT coalesce(array_agg(id), ''{}'') FROM (
            SELECT id FROM runs_%s WHERE finished_at IS NULL OR finished_at >= $1 LIMIT $2 + 1) AS held', name)
       INTO stay USING ended_before, most;
    EXECUTE format('SELECT count(*) FROM (SELECT FROM journal_%s WHERE run_id = ANY ($1) LIMIT 20 * $2 + 1) AS held', name)
       INTO events USING stay, most;
    IF cardinality(stay) > most OR events > 20 * most THEN
        outcome := 'crowded';
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*) - cardinality($1) FROM runs_%s', name) INTO forgotten USING stay;

    LOCK TABLE ONLY runs, ONLY journal IN ACCESS EXCLUSIVE MODE;
    -- Only now nothing changes any more: what goes on again since the first look stays too. An index finds it.
    EXECUTE format(
        'SELECT $1 || coalesce(array_agg(id), ''{}'') FROM runs_%s WHERE finished_at IS NULL AND id <> ALL ($1)', name)
       INTO stay USING stay;
    EXECUTE format('ALTER TABLE runs DETACH PARTITION runs_%s', name);
    EXECUTE format('ALTER TABLE journal DETACH PARTITION journal_%s', name);
    EXECUTE format('INSERT INTO runs SELECT * FROM runs_%s WHERE id = ANY ($1)', name) USING stay;
    EXECUTE format('INSERT INTO journal SELECT * FROM journal_%s WHERE run_id = ANY ($1)', name) USING stay;
    -- Words that nobody can fold any more. While somebody owns the shard there are none.
    EXECUTE format('DELETE FROM inbox USING runs_%s AS run WHERE inbox.run_id = run.id AND run.id <> ALL ($1)', name)
      USING stay;
    EXECUTE format('DROP TABLE runs_%s, journal_%s', name, name);
    outcome := 'dropped';
END
$$;
