-- Id, name and current version of a flow by id or name.
SELECT id, name, current_version
  FROM flows
 WHERE (id = %(id)s OR name = %(name)s) AND deleted_at IS NULL
