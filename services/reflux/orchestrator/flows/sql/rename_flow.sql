-- Another name for the same version; conditions as in save_version.
UPDATE flows
   SET name = %(name)s
 WHERE id = %(flow_id)s AND current_version = %(seen_version)s AND name = %(seen_name)s
   AND deleted_at IS NULL
RETURNING current_version
