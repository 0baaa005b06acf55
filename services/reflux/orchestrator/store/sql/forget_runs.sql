-- Deletes what ended before a time among one page of the runs between two ids (both excluded), with their journals.
-- Answers how many, and the last id of the page; NULL: there are no more.
WITH page AS MATERIALIZED (
    SELECT id, finished_at
      FROM runs
     WHERE id > %(after)s::uuid AND id < %(bound)s::uuid
     ORDER BY id
     LIMIT %(limit)s
), expired AS MATERIALIZED (
    SELECT id FROM page WHERE finished_at < %(ended_before)s
), events AS (
    DELETE FROM journal
     USING expired
     WHERE journal.run_id = expired.id AND journal.run_id > %(after)s::uuid AND journal.run_id < %(bound)s::uuid
), gone AS (
    DELETE FROM runs
     USING expired
     WHERE runs.id = expired.id AND runs.id > %(after)s::uuid AND runs.id < %(bound)s::uuid
 RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT id FROM page ORDER BY id DESC LIMIT 1)
