-- Renew a lease that has not run out.
UPDATE endpoints SET lease_until = clock_timestamp() + %(lease)s
 WHERE id = %(id)s AND lease_until > clock_timestamp()
RETURNING id
