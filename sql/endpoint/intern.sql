-- Add endpoints that are not in the store yet.
--
-- names: of endpoints; only missing ones, since a conflict uses up an id

INSERT INTO endpoint (name)
SELECT t.name
FROM unnest(:'names'::text[]) AS t (name)
-- One order for all writers, so that they wait for each other instead of deadlocking.
ORDER BY t.name COLLATE "C"
ON CONFLICT (name) DO NOTHING
RETURNING id, name;
