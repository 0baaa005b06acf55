-- What starts runs by itself, as the current version of each flow declares it.
--
-- A trigger is part of a flow's document; its row is what is looked up when something arrives, and what makes a
-- path belong to one flow. Rows are written in the transaction that makes the version, and go with the flow.

CREATE TABLE triggers (
    flow_id      uuid        NOT NULL REFERENCES flows,
    id           text        NOT NULL COLLATE "C",
    flow_version integer     NOT NULL,
    method       text        NOT NULL,
    path         text        NOT NULL COLLATE "C",
    auth         text        NOT NULL CHECK (auth IN ('none', 'hmac')),
    respond      text        NOT NULL CHECK (respond IN ('accepted', 'run')),
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (flow_id, id)
);
COMMENT ON COLUMN triggers.path IS 'Below /hooks/, without a slash at either end.';
COMMENT ON COLUMN triggers.created_at IS 'When a trigger of this id came into the flow; later versions keep it.';
CREATE UNIQUE INDEX triggers_by_path ON triggers (method, path);
