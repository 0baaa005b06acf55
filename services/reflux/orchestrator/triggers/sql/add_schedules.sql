-- The schedules of a flow's new version. One that is there with an equal rule goes on as it was, paused or not; one
-- whose rule has changed fires next as the new rule says, counted from now.
-- The shard follows from the names; before the first orchestrator has made the shards, it is the one that always is.
INSERT INTO schedules AS known (flow_id, trigger_id, flow_version, shard, rule, catchup, overlap, scheduled_for, fire_at)
SELECT %(flow_id)s::uuid, id, %(flow_version)s,
       mod(hashtextextended(%(flow_id)s::text || '/' || id, 0) & 9223372036854775807,
           greatest((SELECT count(*) FROM shards), 1)),
       rule::jsonb, catchup, overlap, scheduled_for, fire_at
  FROM unnest(%(ids)s::text[], %(rules)s::text[], %(catchups)s::text[], %(overlaps)s::text[],
              %(scheduled)s::timestamptz[], %(fires)s::timestamptz[])
       AS declared (id, rule, catchup, overlap, scheduled_for, fire_at)
ON CONFLICT (flow_id, trigger_id) DO UPDATE
   SET flow_version = excluded.flow_version,
       rule = excluded.rule,
       catchup = excluded.catchup,
       overlap = excluded.overlap,
       revision = known.revision + (known.rule <> excluded.rule)::integer,
       scheduled_for = CASE WHEN known.rule = excluded.rule THEN known.scheduled_for ELSE excluded.scheduled_for END,
       fire_at = CASE WHEN known.rule = excluded.rule THEN known.fire_at ELSE excluded.fire_at END
