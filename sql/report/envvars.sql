-- Which environment variables were ever set?
--
-- name: only those of this name
-- limit: at most this many

SELECT
    v.name,
    v.value
FROM envvar AS v
\if :{?name}
WHERE v.name = :'name'::text
\endif
ORDER BY v.name, v.value_sha256
\if :{?limit}
LIMIT :limit
\endif
;
