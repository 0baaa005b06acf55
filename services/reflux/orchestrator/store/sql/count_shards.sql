-- How many shards this database has, for ever.
SELECT count(*) FROM shards
