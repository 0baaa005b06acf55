-- Another name for the same version; conditions as in save_version.
UPDATE flows
   SET name = %(name)s
 WHERE id = %(flow_id)s AND current_version = %(expected_version)s AND deleted_at IS NULL
RETURNING current_version
