-- Node versions, for ever; their endpoints, for as long as their leases.

-- One row. Rises with every change of what WatchCatalog shows, in the transaction of the change.
CREATE TABLE catalog (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint  NOT NULL
);
INSERT INTO catalog (revision) VALUES (1);

CREATE TABLE node_versions (
    node            text        NOT NULL,
    version         text        NOT NULL,
    description     text        NOT NULL,
    input_schema    bytea       NOT NULL,  -- JSON Schema, as the node wrote it
    output_schema   bytea       NOT NULL,
    effect          bytea       NOT NULL,  -- reflux.api.node.v1.Effect
    attempt_timeout interval    NOT NULL,
    max_concurrency integer     NOT NULL,
    digest          text        NOT NULL,  -- of description, schemas and effect
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (node, version)
);

CREATE TABLE endpoints (
    id          uuid        PRIMARY KEY,
    node        text        NOT NULL,
    version     text        NOT NULL,
    address     text        NOT NULL UNIQUE,  -- ip:port; who registers it last is who listens there
    lease_until timestamptz NOT NULL,
    FOREIGN KEY (node, version) REFERENCES node_versions
);

CREATE INDEX endpoints_lease ON endpoints (lease_until);
