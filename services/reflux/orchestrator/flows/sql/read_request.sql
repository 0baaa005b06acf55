-- What a held create-once handle stands for.
SELECT flow_id, body_digest FROM flow_requests WHERE request_id = %(request_id)s
