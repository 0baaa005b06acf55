-- Marks a flow as deleted; its name and its triggers' paths are free from here on.
WITH gone AS (
    UPDATE flows
       SET deleted_at = clock_timestamp()
     WHERE (id = %(id)s OR name = %(name)s) AND deleted_at IS NULL
    RETURNING id
), freed AS (
    DELETE FROM triggers WHERE flow_id IN (SELECT id FROM gone)
)
SELECT id FROM gone
