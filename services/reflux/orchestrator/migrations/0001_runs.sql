-- Who advances runs, the runs, and what happened to them.
--
-- The clock of this database is the only one that is ever compared (leases, timers, expiry).
-- Ids of runs are UUIDv7 made outside: they sort by the time of creation, which is what `runs` and `journal`
-- are partitioned by. A DEFAULT partition takes whatever has no partition of its own.

-- One row per life of an orchestrator. Its heartbeat touches nothing but this row.
-- 'left' and 'dead' are final: whoever wants back joins under a new id.
CREATE TABLE members (
    id          uuid        PRIMARY KEY,
    address     text        NOT NULL,
    state       text        NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'left', 'dead')),
    joined_at   timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN members.address IS 'Where nodes claim effects: host:port of gRPC.';
CREATE INDEX members_alive ON members (joined_at, id) WHERE state = 'alive';

-- A row per shard, made when the first orchestrator starts. Whoever presents the current token is the owner.
-- The token rises whenever the owner changes, also when there is none.
CREATE TABLE shards (
    id            integer PRIMARY KEY CHECK (id >= 0),
    owner         uuid    REFERENCES members,
    fencing_token bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 25);

-- One row per run: what lists show, and what recovery needs to know without reading the journal.
CREATE TABLE runs (
    id            uuid        NOT NULL,
    shard         integer     NOT NULL,
    flow_id       uuid        NOT NULL,
    flow_name     text        NOT NULL,
    flow_version  integer     NOT NULL CHECK (flow_version > 0),
    state         text        NOT NULL
        CHECK (state IN ('RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED', 'PARKED')),
    actor         text        NOT NULL,
    created_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    wake_at       timestamptz,
    recoveries    integer     NOT NULL DEFAULT 0,
    error_code    text,
    error_reason  text,
    error_message text,
    error_step    text,
    PRIMARY KEY (id),
    CHECK ((finished_at IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELED'))),
    CHECK (finished_at IS NULL OR wake_at IS NULL)
) PARTITION BY RANGE (id);
COMMENT ON COLUMN runs.wake_at IS 'Its owner takes it into memory then at the latest; NULL: it is there, PARKED, or finished.';
COMMENT ON COLUMN runs.recoveries IS 'Deaths of its owner since it last made progress.';
CREATE TABLE runs_default PARTITION OF runs DEFAULT WITH (fillfactor = 80);
CREATE INDEX runs_unfinished ON runs (shard, id) WHERE finished_at IS NULL;
CREATE INDEX runs_waiting ON runs (shard, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_of_flow ON runs (flow_id, id);
CREATE INDEX runs_in_state ON runs (state, id);

-- The truth about a run, append-only: seq counts from 1 without gaps, payload is reflux.api.journal.v1.Event.
CREATE TABLE journal (
    run_id      uuid        NOT NULL,
    seq         integer     NOT NULL CHECK (seq > 0),
    recorded_at timestamptz NOT NULL,
    payload     bytea       NOT NULL CHECK (octet_length(payload) <= 2097152),
    PRIMARY KEY (run_id, seq)
) PARTITION BY RANGE (run_id);
CREATE TABLE journal_default PARTITION OF journal DEFAULT;

-- Start-once handles. scope keeps apart who may use the same words (a flow's API, a webhook).
CREATE TABLE start_keys (
    scope       text        NOT NULL,
    key         text        NOT NULL,
    body_digest bytea       NOT NULL,
    run_id      uuid        NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX start_keys_expiry ON start_keys (expires_at);

-- Words to runs, until the owner has folded them into the journal. Unlogged would be faster, and would lose them.
CREATE TABLE inbox (
    shard      integer     NOT NULL,
    run_id     uuid        NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    kind       text        NOT NULL,
    payload    bytea       NOT NULL CHECK (octet_length(payload) <= 2097152),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (shard, run_id, id)
);
