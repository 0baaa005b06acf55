-- Events of a run that does not exist yet, from 2 on: what it takes over from another one. Until `start_runs` writes
-- event 1 with the run's row nobody can know of them, so nobody can write for the same run meanwhile; if that never
-- comes they stay behind unseen, and go with their partition. A child that goes on from a former one may be begun by
-- several tries: what they write is the same, and stands once.
INSERT INTO journal (run_id, seq, recorded_at, payload)
SELECT %(run_id)s::uuid, event.seq, now(), event.payload
  FROM unnest(%(seqs)b, %(payloads)b) AS event (seq, payload)
    ON CONFLICT (run_id, seq) DO NOTHING
