-- Makes the partitions of a span; see migration 0004.
SELECT make_partition(%(name)s, %(first)s::uuid, %(bound)s::uuid, %(present)s, %(most)s::integer)
