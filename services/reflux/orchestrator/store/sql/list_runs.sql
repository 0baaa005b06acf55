-- One page of runs, newest first (UUIDv7 sort by time). Filters that are NULL do not filter. Never prepared: it
-- is planned with its values, so an absent filter vanishes and the index of the present one is used.
-- The bounds on id repeat those on created_at, a little wider, for the index: an id carries its time.
SELECT id, shard, flow_id, flow_name, flow_version, state, actor, created_at, finished_at, wake_at, recoveries,
       error_code, error_reason, error_message, error_step, error_fingerprint, search_key, trigger_id, origin_run,
       operation, test
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
   AND (%(older_than)s::uuid IS NULL OR id < %(older_than)s::uuid)
 ORDER BY id DESC
 LIMIT %(limit)s
