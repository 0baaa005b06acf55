-- Marks a flow as deleted; its name is free from here on. Waits for who is just saving it, so its triggers are
-- taken away by a statement of their own (drop_triggers), which sees what was saved meanwhile.
UPDATE flows
   SET deleted_at = clock_timestamp()
 WHERE (id = %(id)s OR name = %(name)s) AND deleted_at IS NULL
RETURNING id
