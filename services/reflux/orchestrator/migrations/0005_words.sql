-- What is said to runs in progress: signals that name no run, who waits for them, and the key of approval tokens.

ALTER TABLE runs DROP CONSTRAINT runs_state_check;
ALTER TABLE runs ADD CONSTRAINT runs_state_check
    CHECK (state IN ('RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED', 'PARKED', 'PAUSED'));
COMMENT ON COLUMN runs.wake_at IS 'Its owner takes it into memory then at the latest; NULL: it is there, PARKED, or finished; the year 9999: it waits for a word.';

-- Signals to whoever waits under a key. Kept until they expire, also when they were taken: the same one within
-- that time is the same signal.
CREATE TABLE signals (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL COLLATE "C",
    key        text        NOT NULL COLLATE "C",
    signal_id  text        NOT NULL COLLATE "C",
    word       bytea       NOT NULL CHECK (octet_length(word) <= 1048576),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    run_ids    uuid[]      NOT NULL DEFAULT '{}',
    UNIQUE (name, key, signal_id)
);
COMMENT ON COLUMN signals.word IS 'As it is put into the inbox of a run that takes it.';
COMMENT ON COLUMN signals.run_ids IS 'The runs it was given to; empty: it waits for a wait to begin.';
CREATE INDEX signals_kept ON signals (name, key, id) WHERE run_ids = '{}';
CREATE INDEX signals_expiry ON signals (expires_at);

-- Steps that wait under a key, written with the state that waits. A row goes when the step waits no longer.
CREATE TABLE signal_waits (
    run_id  uuid    NOT NULL,
    step    text    NOT NULL COLLATE "C",
    shard   integer NOT NULL,
    name    text    NOT NULL COLLATE "C",
    key     text    NOT NULL COLLATE "C",
    offered bigint,
    PRIMARY KEY (run_id, step)
);
COMMENT ON COLUMN signal_waits.offered IS 'The signal that is on its way to it: a wait is offered one at a time.';
CREATE INDEX signal_waits_by_key ON signal_waits (name, key);

ALTER TABLE inbox ADD COLUMN signal bigint;
COMMENT ON COLUMN inbox.signal IS 'The signal that this word is; it goes back to the others when the run does not take it.';

-- What the platform alone knows, made once: the key from which the tokens of approvals are derived.
CREATE TABLE platform_keys (
    name text  PRIMARY KEY,
    key  bytea NOT NULL
);
