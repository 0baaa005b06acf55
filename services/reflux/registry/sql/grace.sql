-- Nobody could renew while the registry was away: every known endpoint gets one lease from now.
UPDATE endpoints SET lease_until = clock_timestamp() + %(lease)s
 WHERE lease_until < clock_timestamp() + %(lease)s
