-- Whether a kept signal and a wait for it are both there, see `match_signals`.
SELECT EXISTS (
    SELECT
      FROM signals JOIN signal_waits AS waits USING (name, key)
     WHERE signals.run_ids = '{}' AND signals.expires_at > now()
       AND NOT EXISTS (SELECT
                         FROM signal_waits AS other
                         JOIN inbox ON inbox.shard = other.shard AND inbox.run_id = other.run_id
                                   AND inbox.signal = other.offered
                        WHERE other.run_id = waits.run_id AND other.name = waits.name AND other.key = waits.key)
       AND NOT EXISTS (SELECT FROM runs
                        WHERE runs.id = waits.run_id AND runs.state = 'PARKED' AND runs.error_reason = 'QUARANTINED')
)
