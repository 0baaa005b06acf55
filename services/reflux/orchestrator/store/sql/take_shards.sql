-- Takeover, second half: a member takes shards that are free or belong to members who are gone for good.
-- 'left' and 'dead' never change back, so an old snapshot can only show too few of them.
-- `orphaned`: the former owner died, rather than gave it up. None that a newer release has owned: its journals
-- may hold what this one cannot fold.
WITH free AS (
    SELECT shards.id, shards.owner IS NOT NULL AS orphaned
      FROM shards
     WHERE (shards.owner IS NULL
            OR shards.owner IN (SELECT id FROM members WHERE state IN ('left', 'dead')))
       AND shards.release <= %(release)s
       AND EXISTS (SELECT FROM members WHERE id = %(member)s::uuid AND state = 'alive')
     ORDER BY shards.id
     LIMIT %(limit)s
       FOR NO KEY UPDATE OF shards
)
UPDATE shards
   SET owner = %(member)s::uuid, fencing_token = fencing_token + 1, release = %(release)s
  FROM free
 WHERE shards.id = free.id
RETURNING shards.id, shards.fencing_token, free.orphaned
