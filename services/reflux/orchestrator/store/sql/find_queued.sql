-- Whether a queued run, which may be paused too, may begin: it has its slot if it needs one, and its time has come. A run that needs no slot
-- waits for the time in its row.
SELECT coalesce(slots.held, true), coalesce(slots.start_at, CASE WHEN slots.run_id IS NULL THEN runs.wake_at END),
       now()
  FROM runs LEFT JOIN slots ON slots.run_id = runs.id
 WHERE runs.id = %(run_id)s::uuid AND runs.finished_at IS NULL
