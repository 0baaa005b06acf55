-- Takes away the triggers of a flow, before those of its new version are added or when it is deleted.
DELETE FROM triggers WHERE flow_id = %(flow_id)s RETURNING id, created_at
