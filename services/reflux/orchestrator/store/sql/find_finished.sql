-- Which of these runs have finished.
SELECT id::text FROM runs WHERE id = ANY(%(runs)s::uuid[]) AND finished_at IS NOT NULL
