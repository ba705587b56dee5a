-- Which submits were made, newest first?
--
-- for_pkg: only those that asked for the package of this name
-- for_version: only those that asked for this version
-- with_pkg: only those whose tree has this package: NAME, or 'NAME VERSION'
-- image, -I: only those that asked for this image
-- commit: only those at this commit of the package repository
-- newer_than: only those made at or after this time
-- older_than: only those made before this time
-- before: go on after this submit, the last row of the page before
-- limit: at most this many

-- The newest are picked first, by an index that ends in their order; then names are looked up for the
-- few that are left. LIMIT 1, of a key, changes no row there: it keeps the planner from joining a
-- page with all packages.
SELECT
    s.uuid,
    s.timestamp,
    p.name AS package,
    p.version,
    i.name AS image,
    g.hash AS repo_hash
FROM
\if :{?for_pkg}
    package AS wanted CROSS JOIN LATERAL
\endif
    (
        SELECT
            n.uuid,
            n.timestamp,
            n.requested_package_id,
            n.requested_image_id,
            n.repo_hash_id
        FROM submit AS n
        WHERE
            TRUE
\if :{?for_pkg}
            AND n.requested_package_id = wanted.id
\endif
\if :{?for_version}
            AND n.requested_package_id IN (
                SELECT v.id FROM package AS v WHERE v.version = :'for_version'::text
            )
\endif
\if :{?with_pkg}
            AND tree_packages(n.tree) @> ARRAY[:'with_pkg'::text]
            -- Always true: this function is PARALLEL RESTRICTED, so that the planner starts no
            -- workers, whose start takes ten times as long as the search.
            AND pg_backend_pid() IS NOT NULL
\endif
\if :{?image}
            AND n.requested_image_id = (SELECT m.id FROM image AS m WHERE m.name = :'image'::text)
\endif
\if :{?commit}
            AND n.repo_hash_id = (SELECT h.id FROM git_hash AS h WHERE h.hash = :'commit'::text)
\endif
\if :{?newer_than}
            AND n.timestamp >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
            AND n.timestamp < :'older_than'::timestamptz
\endif
\if :{?before}
            AND (n.timestamp, n.uuid) < (
                (SELECT b.timestamp FROM submit AS b WHERE b.uuid = :'before'::uuid), :'before'::uuid
            )
\endif
        ORDER BY n.timestamp DESC, n.uuid DESC
\if :{?limit}
        LIMIT :limit
\endif
    ) AS s
CROSS JOIN LATERAL (
    SELECT
        v.name,
        v.version
    FROM package AS v
    WHERE v.id = s.requested_package_id
\if :{?limit}
    ORDER BY v.id
    LIMIT 1
\endif
) AS p
CROSS JOIN LATERAL (
    SELECT v.name
    FROM image AS v
    WHERE v.id = s.requested_image_id
\if :{?limit}
    ORDER BY v.id
    LIMIT 1
\endif
) AS i
CROSS JOIN LATERAL (
    SELECT v.hash
    FROM git_hash AS v
    WHERE v.id = s.repo_hash_id
\if :{?limit}
    ORDER BY v.id
    LIMIT 1
\endif
) AS g
\if :{?for_pkg}
WHERE wanted.name = :'for_pkg'::text
\endif
ORDER BY s.timestamp DESC, s.uuid DESC
\if :{?limit}
LIMIT :limit
\endif
;
