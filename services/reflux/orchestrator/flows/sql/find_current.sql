-- Id, name and current version of a flow by id or name; a deleted one by its id, if it is asked for.
SELECT id, name, current_version
  FROM flows
 WHERE (id = %(id)s AND (deleted_at IS NULL OR %(deleted)s)) OR (name = %(name)s AND deleted_at IS NULL)
