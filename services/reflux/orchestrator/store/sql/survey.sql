-- What one member must know to take its fair share: how many are alive, its rank among them (from 0, by the
-- time of joining), how many shards there are and are free, and which it has under which tokens.
SELECT (SELECT count(*) FROM members WHERE state = 'alive'),
       (SELECT count(*) FROM members
         WHERE state = 'alive'
           AND (joined_at, id) < (SELECT joined_at, id FROM members WHERE id = %(member)s::uuid)),
       count(*),
       count(*) FILTER (WHERE owner IS NULL OR members.state <> 'alive'),
       coalesce(array_agg(shards.id) FILTER (WHERE owner = %(member)s::uuid), '{}'),
       coalesce(array_agg(fencing_token) FILTER (WHERE owner = %(member)s::uuid), '{}')
  FROM shards LEFT JOIN members ON members.id = shards.owner
