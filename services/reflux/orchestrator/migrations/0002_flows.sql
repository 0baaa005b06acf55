-- Flows and their frozen versions.
--
-- A deleted flow keeps its row and its versions, for the runs that began with them; only its name is free again.
-- Documents are kept as the exact JSON text they are answered with, so that numbers keep their digits.

CREATE TABLE flows (
    id              uuid        PRIMARY KEY,
    name            text        NOT NULL COLLATE "C",
    current_version integer     NOT NULL CHECK (current_version > 0),
    created_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);
COMMENT ON COLUMN flows.current_version IS 'Also the number of versions: they count from 1 without gaps.';
CREATE UNIQUE INDEX flows_by_name ON flows (name) WHERE deleted_at IS NULL;

-- Never changed, never deleted.
CREATE TABLE flow_versions (
    flow_id     uuid        NOT NULL REFERENCES flows,
    version     integer     NOT NULL CHECK (version > 0),
    digest      text        NOT NULL,
    description text        NOT NULL,
    spec        bytea       NOT NULL,
    ui          bytea       NOT NULL,
    author      text        NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (flow_id, version)
);
COMMENT ON COLUMN flow_versions.digest IS 'sha256 of the canonical spec, hexadecimal: the etag.';
COMMENT ON COLUMN flow_versions.spec IS 'JSON, UTF-8, in present spelling.';
COMMENT ON COLUMN flow_versions.ui IS 'JSON, UTF-8; null when there is no layout.';

-- Create-once handles.
CREATE TABLE flow_requests (
    request_id  text        PRIMARY KEY,
    body_digest text        NOT NULL,
    flow_id     uuid        NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX flow_requests_expiry ON flow_requests (expires_at);
