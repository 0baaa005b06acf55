-- Marks a flow as deleted; its name is free from here on.
UPDATE flows
   SET deleted_at = clock_timestamp()
 WHERE (id = %(id)s OR name = %(name)s) AND deleted_at IS NULL
RETURNING id
