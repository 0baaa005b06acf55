-- Which runs are tests, so that lists can leave them out, or show nothing else. An orchestrator that does not know of
-- the column goes on writing: its runs are not found as tests.

ALTER TABLE runs ADD COLUMN test boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN runs.test IS 'It was started as a test, or comes of one.';
CREATE INDEX runs_that_are_tests ON runs (id) WHERE test;
