-- One page of a run's journal.
SELECT seq, recorded_at, payload
  FROM journal
 WHERE run_id = %(run_id)s::uuid AND seq > %(after)s
 ORDER BY seq
 LIMIT %(limit)s
