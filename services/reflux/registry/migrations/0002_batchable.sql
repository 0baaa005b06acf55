-- Whether a version takes several attempts in one call. Like its concurrency it follows the newest registration.
ALTER TABLE node_versions ADD COLUMN batchable boolean NOT NULL DEFAULT false;
