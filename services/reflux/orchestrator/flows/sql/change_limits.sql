-- What the new version of a flow says of its limits, for the runs that wait already.
SELECT change_limits(%(flow_id)s, %(version)s, %(slots)s, %(runs)s, %(period)s)
