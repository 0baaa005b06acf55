-- Whether a version can say what became of an effect, and undo one by its key. They follow the newest registration.
ALTER TABLE node_versions
    ADD COLUMN verifiable boolean NOT NULL DEFAULT false,
    ADD COLUMN cancelable boolean NOT NULL DEFAULT false;
