-- The partitions of `runs`, oldest first, DEFAULT without bounds; whether DEFAULT is fenced or too large to be read while
-- writers wait; and the time. The partition of `journal` is made and dropped with that of `runs`.
SELECT bounds[1]::uuid AS first,
       bounds[2]::uuid AS bound,
       EXISTS (SELECT FROM pg_constraint
                WHERE conname = 'fence'
                  AND conrelid IN ('runs_default'::regclass, 'journal_default'::regclass)) AS fenced,
       pg_relation_size('runs_default') + pg_relation_size('journal_default') AS default_bytes,
       now()
  FROM pg_inherits
  JOIN pg_class AS child ON child.oid = inhrelid,
       regexp_match(pg_get_expr(child.relpartbound, child.oid),
                    'FROM \(''([0-9a-f-]{36})''\) TO \(''([0-9a-f-]{36})''\)') AS bounds
 WHERE inhparent = 'runs'::regclass
 ORDER BY first NULLS FIRST
