-- Where the journals of some runs end, without reading an event: for runs that nobody may read.
SELECT run_id, max(seq)
  FROM journal
 WHERE run_id = ANY (%(run_ids)b)
 GROUP BY run_id
