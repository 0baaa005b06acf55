-- What one member must know to take its fair share among the living of its release: how many they are, its rank
-- among them (from 0, by the time of joining), whether somebody newer lives, whether somebody's lease is over that
-- nobody has ended yet, how many shards there are, how many of them are free and may be its, and which it has under
-- which tokens.
SELECT count(*) FILTER (WHERE peers.release = %(release)s),
       count(*) FILTER (WHERE peers.release = %(release)s AND (joined_at, id) < (
           SELECT joined_at, id FROM members WHERE id = %(member)s::uuid)),
       coalesce(bool_or(peers.release > %(release)s), false),
       coalesce(bool_or(peers.lease_until < clock_timestamp()), false),
       shards.*
  FROM (SELECT release, joined_at, id, lease_until FROM members WHERE state = 'alive') AS peers
 RIGHT JOIN (
       SELECT count(*) AS total,
              count(*) FILTER (
                  WHERE (owner IS NULL OR members.state <> 'alive') AND shards.release <= %(release)s) AS free,
              coalesce(array_agg(shards.id) FILTER (WHERE owner = %(member)s::uuid), '{}') AS mine,
              coalesce(array_agg(fencing_token) FILTER (WHERE owner = %(member)s::uuid), '{}') AS tokens
         FROM shards LEFT JOIN members ON members.id = shards.owner
       ) AS shards ON true
 GROUP BY shards.total, shards.free, shards.mine, shards.tokens
