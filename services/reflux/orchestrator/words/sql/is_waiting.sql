-- Whether a word is still in the inbox.
SELECT EXISTS (SELECT FROM inbox WHERE shard = %(shard)s AND run_id = %(run_id)s::uuid AND id = %(word)s)
