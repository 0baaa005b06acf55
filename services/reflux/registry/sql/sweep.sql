-- Take out every endpoint whose lease has run out.
WITH expired AS (
    DELETE FROM endpoints WHERE lease_until <= clock_timestamp() RETURNING node, version, address
), changed AS (
    UPDATE catalog SET revision = revision + 1 WHERE EXISTS (SELECT FROM expired)
)
SELECT node, version, address FROM expired ORDER BY node, version, address
