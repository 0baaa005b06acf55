-- Renews a lease, and answers the database's time. No row: the member is not alive, whatever it believes.
UPDATE members
   SET lease_until = clock_timestamp() + %(lease)s
 WHERE id = %(member)s::uuid AND state = 'alive'
RETURNING clock_timestamp()
