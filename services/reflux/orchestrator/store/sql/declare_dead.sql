-- Takeover, first half: ends the membership of those whose lease is over.
-- Alone in its statement: only the row that is locked is judged anew after waiting for a heartbeat in progress,
-- so a renewal can only come before (and is seen) or after (and finds no row).
UPDATE members
   SET state = 'dead'
 WHERE state = 'alive' AND lease_until < clock_timestamp()
RETURNING id, address
