-- Runs that a trigger has started by itself and that have not ended, oldest first.
SELECT id
  FROM runs
 WHERE flow_id = %(flow_id)s AND actor = %(actor)s AND actor LIKE 'trigger:%%' AND finished_at IS NULL
 ORDER BY id
 LIMIT %(limit)s
