-- Deletes rates of which nothing is used up, oldest first, at most `limit`; leaves those that somebody is using.
-- A row that is not there means the same.
WITH old AS (
    SELECT flow_id, key FROM rates WHERE full_at <= now() ORDER BY full_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM rates USING old WHERE rates.flow_id = old.flow_id AND rates.key = old.key RETURNING 1
)
SELECT count(*) FROM gone
