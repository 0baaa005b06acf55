-- What the new version of a flow says of its limit of concurrency, for the runs that are there already.
SELECT change_slots(%(flow_id)s, %(slots)s)
