-- Which packages have a name that begins with this?
--
-- begin: the beginning, which may be empty
-- limit: at most this many

SELECT DISTINCT p.name
FROM package AS p
WHERE
    p.name >= :'begin'::text COLLATE "C"
    -- The greatest character ends the range, so that it is one of the key's index.
    AND p.name < (:'begin'::text || chr(1114111)) COLLATE "C"
ORDER BY p.name
LIMIT :limit;
