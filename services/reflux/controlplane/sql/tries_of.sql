-- The tries of some calls, each call's as they began.
SELECT call, leaf, endpoint, started_at, took_us, code, flags
FROM tries
WHERE call = ANY(%(calls)s::text[])
ORDER BY call, started_at, took_us
LIMIT %(limit)s
