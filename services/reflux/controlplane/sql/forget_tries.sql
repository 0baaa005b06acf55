-- Forgets what is too old.
DELETE FROM tries WHERE kept_at < clock_timestamp() - make_interval(days => %(days)s)
