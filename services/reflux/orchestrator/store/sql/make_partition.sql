-- Makes the partitions of a span.
SELECT make_partition(%(name)s, %(first)s::uuid, %(bound)s::uuid, %(present)s, %(most)s::integer)
