-- Keeps a signal, unless the same one is there, or `limit` are kept under its key. One that has expired is
-- taken over.
INSERT INTO signals (name, key, signal_id, word, created_at, expires_at)
SELECT %(name)s, %(key)s, %(signal_id)s, %(word)s, now(), now() + %(keep)s
 WHERE %(limit)s > (SELECT count(*)
                      FROM (SELECT FROM signals
                             WHERE name = %(name)s AND key = %(key)s AND run_ids = '{}' AND expires_at > now()
                             LIMIT %(limit)s) AS kept)
    ON CONFLICT (name, key, signal_id) DO UPDATE
   SET word = excluded.word, created_at = excluded.created_at, expires_at = excluded.expires_at, run_ids = '{}'
 WHERE signals.expires_at <= now()
