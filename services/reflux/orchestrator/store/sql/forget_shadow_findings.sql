-- Forgets what has not been seen for long: outputs are users' data.
DELETE FROM shadow_findings WHERE seen_at < clock_timestamp() - make_interval(days => %(days)s)
