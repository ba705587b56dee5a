-- Which submits were made, newest first?
--
-- package: only those that asked for the package of this name
-- version: only those that asked for this version
-- image: only those that asked for this image
-- repo_hash: only those at this commit of the package repository
-- in_tree: only those whose tree has this package: 'name', or 'name version'
-- newer_than: only those made at or after this time
-- older_than: only those made before this time
-- before_timestamp: with before_submit, go on after this last row of the page before
-- limit: at most this many

SELECT
    s.uuid,
    s.timestamp,
    p.name AS package,
    p.version,
    i.name AS image,
    g.hash AS repo_hash
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
WHERE
    TRUE
\if :{?package}
    AND p.name = :'package'::text
\endif
\if :{?version}
    AND p.version = :'version'::text
\endif
\if :{?image}
    AND s.requested_image_id = (SELECT wanted.id FROM image AS wanted WHERE wanted.name = :'image'::text)
\endif
\if :{?repo_hash}
    AND s.repo_hash_id = (SELECT wanted.id FROM git_hash AS wanted WHERE wanted.hash = :'repo_hash'::text)
\endif
\if :{?in_tree}
    AND tree_packages(s.tree) @> ARRAY[:'in_tree'::text]
\endif
\if :{?newer_than}
    AND s.timestamp >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND s.timestamp < :'older_than'::timestamptz
\endif
\if :{?before_timestamp}
    AND (s.timestamp, s.uuid) < (:'before_timestamp'::timestamptz, :'before_submit'::uuid)
\endif
ORDER BY s.timestamp DESC, s.uuid DESC
\if :{?limit}
LIMIT :'limit'::bigint
\endif
;
