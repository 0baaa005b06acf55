-- Make a version known, or find it known with the same digest; no row when the digest is another. What a
-- deployment may tune (timeout, concurrency, what it serves) follows the newest registration.
INSERT INTO node_versions AS v (node, version, description, input_schema, output_schema, effect,
                                attempt_timeout, max_concurrency, batchable, verifiable,
                                cancelable, credentials, digest)
VALUES (%(node)s, %(version)s, %(description)s, %(input_schema)s, %(output_schema)s, %(effect)s,
        %(attempt_timeout)s, %(max_concurrency)s, %(batchable)s, %(verifiable)s, %(cancelable)s,
        %(credentials)s, %(digest)s)
ON CONFLICT (node, version) DO UPDATE
   SET attempt_timeout = EXCLUDED.attempt_timeout, max_concurrency = EXCLUDED.max_concurrency,
       batchable = EXCLUDED.batchable, verifiable = EXCLUDED.verifiable, cancelable = EXCLUDED.cancelable,
       credentials = EXCLUDED.credentials
 WHERE v.digest = EXCLUDED.digest
RETURNING v.digest
