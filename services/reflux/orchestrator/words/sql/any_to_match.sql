-- Whether a kept signal and a wait for it are both there.
SELECT EXISTS (
    SELECT
      FROM signals JOIN signal_waits USING (name, key)
     WHERE signals.run_ids = '{}' AND signals.expires_at > now() AND signal_waits.offered IS NULL
)
