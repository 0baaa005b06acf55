-- A start-once handle of something that is no run. Who comes second changes nothing; one that has expired is taken over.
INSERT INTO start_keys AS known (scope, key, body_digest, run_id, expires_at)
VALUES (%(scope)s, %(key)s, %(digest)s, %(id)s::uuid, now() + interval '7 days')
    ON CONFLICT (scope, key) DO UPDATE
   SET run_id = excluded.run_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
 WHERE known.expires_at <= now()
RETURNING known.run_id
