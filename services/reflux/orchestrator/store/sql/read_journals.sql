-- The beginnings of the journals of some runs, one run after the other.
SELECT run_id, seq, recorded_at, payload
  FROM journal
 WHERE run_id = ANY (%(run_ids)b) AND seq <= %(limit)s
 ORDER BY run_id, seq
