-- Old and new orchestrators side by side: what a newer one may have written, an older one must not try to read.
--
-- A release here is a number that rises whenever journals may hold what the release before cannot fold. Rows of
-- orchestrators that do not know of it have 0.

ALTER TABLE members ADD COLUMN release integer NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN release integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN shards.release IS 'The newest release that has owned it: no older one may.';
