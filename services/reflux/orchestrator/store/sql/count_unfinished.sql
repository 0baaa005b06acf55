-- How many runs are in each of some states, counted up to a limit each. Index-only on runs_in_state wherever the
-- pages are all-visible; the limit bounds it where they are not.
SELECT wanted.state, (SELECT count(*)
                        FROM (SELECT 1 FROM runs WHERE runs.state = wanted.state LIMIT %(limit)s) AS counted)
  FROM unnest(%(states)s::text[]) AS wanted (state)
