-- Drops the partitions of a span; see migration 0004.
SELECT outcome, forgotten FROM drop_partition(%(name)s, %(ended_before)s, %(most)s::integer)
