-- Takes back what `keep_outcomes` wrote for a run that was never begun.
DELETE FROM journal
 WHERE run_id = %(run_id)s::uuid
   AND NOT EXISTS (SELECT FROM runs WHERE id = %(run_id)s::uuid)
