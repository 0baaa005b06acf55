-- What a new version of a flow says of its limit holds at once, also for runs that wait already: they get the slots
-- that there are more of. `allowed` is NULL for a version without a limit: then all of them begin. Nobody is asked to
-- end for a smaller limit.
CREATE FUNCTION change_slots(changed uuid, allowed integer) RETURNS void AS $$
DECLARE
    keys text[];
BEGIN
    PERFORM FROM limits WHERE limits.flow_id = changed ORDER BY limits.key FOR UPDATE;
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
