-- Takes a create-once handle: one row when it was free or had expired, none when it is held.
-- Whoever holds it in a transaction not yet ended is waited for. Expired handles go as new ones come.
WITH expired AS (
    DELETE FROM flow_requests
     WHERE request_id IN (
           SELECT request_id FROM flow_requests
            WHERE expires_at < clock_timestamp() AND request_id <> %(request_id)s
            ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED)
)
INSERT INTO flow_requests (request_id, body_digest, flow_id, expires_at)
VALUES (%(request_id)s, %(body_digest)s, %(flow_id)s, clock_timestamp() + interval '7 days')
ON CONFLICT (request_id) DO UPDATE
   SET body_digest = excluded.body_digest, flow_id = excluded.flow_id, expires_at = excluded.expires_at
 WHERE flow_requests.expires_at < clock_timestamp()
RETURNING flow_id
