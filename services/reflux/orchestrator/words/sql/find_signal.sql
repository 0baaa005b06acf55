-- What became of a signal.
SELECT run_ids, expires_at, word
  FROM signals
 WHERE name = %(name)s AND key = %(key)s AND signal_id = %(signal_id)s
