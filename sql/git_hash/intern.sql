-- Add git hashes that are not in the store yet.
--
-- hashes: commits; only missing ones, since a conflict uses up an id

INSERT INTO git_hash (hash)
SELECT t.hash
FROM unnest(:'hashes'::text[]) AS t (hash)
-- One order for all writers, so that they wait for each other instead of deadlocking.
ORDER BY t.hash COLLATE "C"
ON CONFLICT (hash) DO NOTHING
RETURNING id, hash;
