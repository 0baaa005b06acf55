-- Routes of nodes, every revision they ever had, and which proxy has taken which.

CREATE TABLE routes (
    node    text    PRIMARY KEY,
    newest  integer NOT NULL,  -- revision handed out last
    serving integer NOT NULL   -- revision that proxies are led to: the newest not refused; 0 when none is left
);

CREATE TABLE route_revisions (
    node       text        NOT NULL REFERENCES routes,
    revision   integer     NOT NULL,
    document   jsonb       NOT NULL,  -- the targets, as RoutingService shows them
    author     text        NOT NULL,
    note       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state      text        NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'APPLIED', 'REJECTED')),
    refusal    text        NOT NULL DEFAULT '',  -- the proxy's own words
    PRIMARY KEY (node, revision)
);

CREATE INDEX route_revisions_pending ON route_revisions (node, revision) WHERE state = 'PENDING';

-- Proxies with a stream to some control plane, kept alive by that control plane.
CREATE TABLE proxies (
    name          text        PRIMARY KEY,
    control_plane uuid        NOT NULL,
    seen_at       timestamptz NOT NULL
);

-- A proxy has acknowledged this revision, and so every earlier one.
CREATE TABLE acknowledgements (
    node     text    NOT NULL REFERENCES routes,
    proxy    text    NOT NULL,
    revision integer NOT NULL,
    PRIMARY KEY (node, proxy)
);
