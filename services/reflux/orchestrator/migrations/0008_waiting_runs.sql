-- Taking a shard over must not read its waiting runs, of which there may be very many: those that are due are found
-- by `runs_waiting`, and those that have no time (which are few, and mostly PARKED) by this.
CREATE INDEX runs_timeless ON runs (shard, id) WHERE finished_at IS NULL AND wake_at IS NULL;
