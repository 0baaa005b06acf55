-- Triggers that are no webhooks, and when schedules fire.
--
-- What a trigger says stands in its flow's version; the rows are what is looked up. A schedule's row is written
-- in the transaction that makes the version, like that of its trigger, and moved on by the owner of its shard.
-- The runs that it starts live in the same shard: whoever may start them may move it, and nobody else.

ALTER TABLE triggers
    ADD COLUMN type        text NOT NULL DEFAULT 'webhook' CHECK (type IN ('webhook', 'cron', 'interval', 'manual')),
    ADD COLUMN title       text NOT NULL DEFAULT '',
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN form        text NOT NULL DEFAULT '',
    ALTER COLUMN method  DROP NOT NULL,
    ALTER COLUMN path    DROP NOT NULL,
    ALTER COLUMN auth    DROP NOT NULL,
    ALTER COLUMN respond DROP NOT NULL,
    ADD CHECK (type <> 'webhook'
               OR (method IS NOT NULL AND path IS NOT NULL AND auth IS NOT NULL AND respond IS NOT NULL));
COMMENT ON COLUMN triggers.form IS 'JSON Schema of a manual trigger; empty: anything may be sent.';

CREATE TABLE schedules (
    flow_id             uuid        NOT NULL REFERENCES flows,
    trigger_id          text        NOT NULL COLLATE "C",
    flow_version        integer     NOT NULL,
    shard               integer     NOT NULL,
    rule                jsonb       NOT NULL,
    catchup             text        NOT NULL CHECK (catchup IN ('none', 'last', 'all')),
    overlap             text        NOT NULL CHECK (overlap IN ('allow', 'skip', 'cancel')),
    paused              boolean     NOT NULL DEFAULT false,
    revision            integer     NOT NULL DEFAULT 1,
    scheduled_for       timestamptz,
    fire_at             timestamptz,
    last_scheduled_for  timestamptz,
    last_fire_at        timestamptz,
    last_run_id         uuid,
    error_scheduled_for timestamptz,
    error_reason        text,
    error_message       text,
    error_at            timestamptz,
    fired               bigint      NOT NULL DEFAULT 0,
    skipped             bigint      NOT NULL DEFAULT 0,
    missed              bigint      NOT NULL DEFAULT 0,
    failed              bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (flow_id, trigger_id),
    CHECK ((scheduled_for IS NULL) = (fire_at IS NULL))
) WITH (fillfactor = 50);
COMMENT ON COLUMN schedules.rule IS 'What decides when it fires; a version with an equal one changes nothing of that.';
COMMENT ON COLUMN schedules.revision IS 'Rises when the rule changes, and with each pause and resume.';
COMMENT ON COLUMN schedules.scheduled_for IS 'The oldest firing that was not dealt with; NULL: there is none any more.';
COMMENT ON COLUMN schedules.fire_at IS 'When it is to be started: after its jitter, or later while the flow cannot be read.';
CREATE INDEX schedules_due ON schedules (shard, fire_at) WHERE NOT paused;

-- What a trigger has started and what still goes on, for firings that must not overlap.
CREATE INDEX runs_unfinished_of_trigger ON runs (flow_id, actor)
    WHERE finished_at IS NULL AND actor LIKE 'trigger:%';
