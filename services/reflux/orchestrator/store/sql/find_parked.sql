-- Which of these runs wait for a person.
SELECT id::text FROM runs WHERE id = ANY(%(runs)s::uuid[]) AND state = 'PARKED'
