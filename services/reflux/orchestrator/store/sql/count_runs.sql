-- How many runs match, counted up to a limit. Filters that are NULL do not filter; they are those of `list_runs`.
SELECT count(*)
  FROM (SELECT 1
          FROM runs
         WHERE (%(flow_id)s::uuid IS NULL OR flow_id = %(flow_id)s::uuid)
           AND (%(state)s::text IS NULL OR state = %(state)s::text)
           AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
           AND (%(fingerprint)s::text IS NULL OR error_fingerprint = %(fingerprint)s::text)
           AND (%(key)s::text IS NULL OR search_key = %(key)s::text)
           AND (%(trigger)s::text IS NULL OR trigger_id = %(trigger)s::text)
           AND (%(origin)s::uuid IS NULL OR origin_run = %(origin)s::uuid)
           AND (%(test)s::boolean IS NULL OR test = %(test)s::boolean)
           AND (%(created_from)s::timestamptz IS NULL
                OR (id >= %(first_id)s::uuid AND created_at >= %(created_from)s::timestamptz))
           AND (%(created_before)s::timestamptz IS NULL
                OR (id <= %(last_id)s::uuid AND created_at < %(created_before)s::timestamptz))
         LIMIT %(limit)s) AS counted
