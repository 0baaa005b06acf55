-- Deletes some of the expired signals.
DELETE FROM signals
 WHERE id IN (SELECT id FROM signals WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s
                 FOR UPDATE SKIP LOCKED)
