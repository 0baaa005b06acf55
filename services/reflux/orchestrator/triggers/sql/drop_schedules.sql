-- Takes away the schedules of a flow, but for those that its new version still has.
DELETE FROM schedules WHERE flow_id = %(flow_id)s AND NOT trigger_id = ANY(%(kept)s::text[])
