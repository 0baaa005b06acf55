-- Gives shards up: whatever is still written under the old token is void from here on.
WITH given AS (
    SELECT id
      FROM shards
     WHERE owner = %(member)s::uuid AND id = ANY (%(shards)s::integer[])
     ORDER BY id
       FOR NO KEY UPDATE
)
UPDATE shards
   SET owner = NULL, fencing_token = fencing_token + 1
  FROM given
 WHERE shards.id = given.id
RETURNING shards.id
