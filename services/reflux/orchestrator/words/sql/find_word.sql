-- The word of a signal in the inbox of a run, if it is there.
SELECT EXISTS (
    SELECT
      FROM inbox JOIN signals ON signals.id = inbox.signal
     WHERE inbox.run_id = %(run_id)s::uuid
       AND signals.name = %(name)s AND signals.key = %(key)s AND signals.signal_id = %(signal_id)s
)
