-- What runs are searched by: the fingerprint of their failure, their flow's search key, what started them, and the run
-- they go on from. All may be NULL, so an orchestrator that does not know of them goes on writing.

ALTER TABLE runs
    ADD COLUMN error_fingerprint text COLLATE "C",
    ADD COLUMN search_key        text COLLATE "C",
    ADD COLUMN trigger_id        text COLLATE "C",
    ADD COLUMN origin_run        uuid,
    ADD COLUMN operation         text;
COMMENT ON COLUMN runs.error_fingerprint IS 'Equal for failures that are the same; see reflux.core.fingerprint.';
COMMENT ON COLUMN runs.search_key IS 'What spec.search_key of its flow version gave for its input.';
COMMENT ON COLUMN runs.operation IS 'What made it, if nobody just started it: fork, retry, execute_step.';
CREATE INDEX runs_by_fingerprint ON runs (error_fingerprint, id) WHERE error_fingerprint IS NOT NULL;
CREATE INDEX runs_by_key ON runs (search_key, id) WHERE search_key IS NOT NULL;
CREATE INDEX runs_of_trigger ON runs (flow_id, trigger_id, id) WHERE trigger_id IS NOT NULL;
CREATE INDEX runs_by_origin ON runs (origin_run, id) WHERE origin_run IS NOT NULL;
