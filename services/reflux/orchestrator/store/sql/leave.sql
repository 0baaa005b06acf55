-- The planned end of a member: not alive any more, and all its shards are free.
WITH gone AS (
    UPDATE members SET state = 'left' WHERE id = %(member)s::uuid AND state = 'alive'
), given AS (
    SELECT id FROM shards WHERE owner = %(member)s::uuid ORDER BY id FOR NO KEY UPDATE
)
UPDATE shards
   SET owner = NULL, fencing_token = fencing_token + 1
  FROM given
 WHERE shards.id = given.id
