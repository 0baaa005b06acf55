-- A new version of a flow, and its name; no row when the flow is deleted, or has not the version and name any
-- more that were seen. Fails with a unique violation when the name is taken.
WITH changed AS (
    UPDATE flows
       SET name = %(name)s, current_version = current_version + 1
     WHERE id = %(flow_id)s AND current_version = %(seen_version)s AND name = %(seen_name)s
       AND deleted_at IS NULL
    RETURNING id, current_version
)
INSERT INTO flow_versions (flow_id, version, digest, description, spec, ui, author, created_at)
SELECT id, current_version, %(digest)s, %(description)s, %(spec)s, %(ui)s, %(author)s, clock_timestamp()
  FROM changed
RETURNING version
