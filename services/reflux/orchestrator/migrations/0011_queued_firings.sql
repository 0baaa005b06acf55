-- A firing may wait until the earlier run of its trigger has ended.

ALTER TABLE schedules
    DROP CONSTRAINT schedules_overlap_check,
    ADD CONSTRAINT schedules_overlap_check CHECK (overlap IN ('allow', 'skip', 'cancel', 'queue'));
COMMENT ON COLUMN schedules.fire_at IS
    'When it is to be started: after its jitter; later while the flow cannot be read, or an earlier run goes on.';
