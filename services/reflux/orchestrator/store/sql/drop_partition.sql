-- Drops the partitions of a span.
SELECT outcome, forgotten FROM drop_partition(%(name)s, %(ended_before)s, %(most)s::integer)
