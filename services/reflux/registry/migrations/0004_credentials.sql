-- Where a step may name a credential for a version, each a CredentialSlot. They follow the newest registration.
ALTER TABLE node_versions
    ADD COLUMN credentials bytea[] NOT NULL DEFAULT '{}';
