-- Add images that are not in the store yet.
--
-- names: the images; give only what is missing, since a conflict burns an id

INSERT INTO image (name)
SELECT t.name
FROM unnest(:'names'::text[]) AS t (name)
-- Always the same order, so that concurrent writers wait for each other and never in a circle.
ORDER BY t.name COLLATE "C"
ON CONFLICT (name) DO NOTHING
RETURNING id, name;
