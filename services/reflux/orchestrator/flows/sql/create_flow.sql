-- A flow and its first version. Fails with a unique violation when the name is taken.
WITH made AS (
    INSERT INTO flows (id, name, current_version, created_at)
    VALUES (%(flow_id)s, %(name)s, 1, clock_timestamp())
    RETURNING id, current_version, created_at
)
INSERT INTO flow_versions (flow_id, version, digest, description, spec, ui, author, created_at)
SELECT id, current_version, %(digest)s, %(description)s, %(spec)s, %(ui)s, %(author)s, created_at FROM made
