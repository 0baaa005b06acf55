-- Put an endpoint under a lease. Whoever was registered at this address listens there no more.
WITH changed AS (
    UPDATE catalog SET revision = revision + 1
)
INSERT INTO endpoints (id, node, version, address, lease_until)
VALUES (%(id)s, %(node)s, %(version)s, %(address)s, clock_timestamp() + %(lease)s)
ON CONFLICT (address) DO UPDATE
   SET id = EXCLUDED.id, node = EXCLUDED.node, version = EXCLUDED.version, lease_until = EXCLUDED.lease_until
