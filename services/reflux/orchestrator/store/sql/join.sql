-- A new member, alive for one lease; long gone ones are forgotten.
WITH forgotten AS (
    DELETE FROM members
     WHERE state <> 'alive'
       AND lease_until < now() - interval '1 day'
       AND NOT EXISTS (SELECT FROM shards WHERE shards.owner = members.id)
)
INSERT INTO members (id, address, joined_at, lease_until)
VALUES (%(member)s::uuid, %(address)s, now(), clock_timestamp() + %(lease)s)
RETURNING clock_timestamp()
