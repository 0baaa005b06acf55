-- Deletes some of the expired start-once handles and answers how many.
-- What somebody is just taking over is left alone.
WITH expired AS (
    SELECT scope, key
      FROM start_keys
     WHERE expires_at <= now()
     ORDER BY expires_at
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM start_keys USING expired
     WHERE start_keys.scope = expired.scope AND start_keys.key = expired.key
 RETURNING 1
)
SELECT count(*) FROM gone
