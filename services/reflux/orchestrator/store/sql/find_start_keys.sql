-- Who has these start-once handles.
SELECT scope, key, known.run_id, known.body_digest
  FROM unnest(%(scopes)b, %(keys)b) AS wanted (scope, key)
  JOIN start_keys AS known USING (scope, key)
