-- A new member, alive for one lease; long gone ones are forgotten. Whoever was a member at this address is dead:
-- an address is bound by one process at a time, and we are that process.
WITH forgotten AS (
    DELETE FROM members
     WHERE state <> 'alive'
       AND lease_until < now() - interval '1 day'
       AND NOT EXISTS (SELECT FROM shards WHERE shards.owner = members.id)
), former AS (
    UPDATE members SET state = 'dead' WHERE state = 'alive' AND address = %(address)s
)
INSERT INTO members (id, address, release, joined_at, lease_until)
VALUES (%(member)s::uuid, %(address)s, %(release)s, now(), clock_timestamp() + %(lease)s)
RETURNING clock_timestamp()
