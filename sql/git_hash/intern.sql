-- Add git hashes that are not in the store yet.
--
-- hashes: the git hashes; give only what is missing, since a conflict burns an id

INSERT INTO git_hash (hash)
SELECT t.hash
FROM unnest(:'hashes'::text[]) AS t (hash)
-- Always the same order, so that concurrent writers wait for each other and never in a circle.
ORDER BY t.hash COLLATE "C"
ON CONFLICT (hash) DO NOTHING
RETURNING id, hash;
