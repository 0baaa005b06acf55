-- What versions in the shadow of others made of their copies: counts, and where outputs differ, with examples.

CREATE TABLE shadow_findings (
    node     text        NOT NULL,
    version  text        NOT NULL,
    kind     text        NOT NULL,  -- equal, different, failed, uncompared, unheard; of a place: see ShadowDifference
    pointer  text        NOT NULL,  -- JSON pointer with * for places of lists; 'count' rows have the word total
    count    bigint      NOT NULL,
    examples jsonb       NOT NULL,  -- the last three
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (node, version, kind, pointer)
);
