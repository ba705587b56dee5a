-- Which submits were made, newest first?
--
-- for_pkg: only those that asked for the package of this name
-- for_version: only those that asked for this version
-- with_pkg: only those whose tree has the package of this name
-- with_version: of this package, only those with this version
-- image, -I: only those that asked for this image
-- commit: only those at this commit of the package repository
-- actor: only those that this actor made
-- label: only those with each of these KEY=VALUE
-- newer_than: only those made at or after this time
-- older_than: only those made before this time
-- before: go on after this submit, the last row of the page before
-- before_at: timestamp of that row, with which it goes on also if the submit was removed since
-- limit: at most this many

-- Choose the newest, from an index that ends in their order; then join the names of these few.
WITH chosen AS (
    SELECT
        n.uuid,
        n.timestamp,
        n.requested_package_id,
        n.requested_image_id,
        n.repo_hash_id,
        n.actor,
        n.labels
    FROM
\if :{?for_pkg}
        (SELECT p.id FROM package AS p WHERE p.name = :'for_pkg'::text) AS p CROSS JOIN LATERAL
\endif
        (
            SELECT
                s.uuid,
                s.timestamp,
                s.requested_package_id,
                s.requested_image_id,
                s.repo_hash_id,
                s.actor,
                s.labels
            FROM submit AS s
            WHERE
                TRUE
\if :{?for_pkg}
                AND s.requested_package_id = p.id
\endif
\if :{?for_version}
                AND s.requested_package_id IN (
                    SELECT p.id FROM package AS p WHERE p.version = :'for_version'::text
                )
\endif
\if :{?with_pkg}
                AND tree_packages(s.tree) @> ARRAY[left(to_jsonb(:'with_pkg'::text)::text, 300)]
                -- Always true, and PARALLEL RESTRICTED: it keeps the planner from starting workers, which
                -- took 10 ms at ten million jobs.
                AND pg_backend_pid() IS NOT NULL
\endif
\if :{?with_version}
                AND tree_packages(s.tree) @> ARRAY[
                    left(to_jsonb(:'with_pkg'::text)::text, 300) || ' '
                    || left(to_jsonb(:'with_version'::text)::text, 300)
                ]
\endif
\if :{?image}
                AND s.requested_image_id = (SELECT i.id FROM image AS i WHERE i.name = :'image'::text)
\endif
\if :{?commit}
                AND s.repo_hash_id = (SELECT g.id FROM git_hash AS g WHERE g.hash = :'commit'::text)
\endif
\if :{?actor}
                AND s.actor = :'actor'::text
\endif
\if :{?label}
                -- The index is for those that have labels.
                AND s.labels IS NOT NULL
                AND s.labels @> (
                    SELECT
                        -- No submit has two values of one key.
                        CASE
                            WHEN count(DISTINCT l.key) = count(DISTINCT l.entry)
                                THEN jsonb_object_agg(l.key, substr(l.entry, strpos(l.entry, '=') + 1))
                        END
                    FROM (
                        SELECT
                            w.entry,
                            -- A text without "=" is an error here; split_part() would take it.
                            substr(w.entry, 1, strpos(w.entry, '=') - 1) AS key
                        FROM unnest(:'label'::text[]) AS w (entry)
                    ) AS l
                )
\endif
\if :{?newer_than}
                AND s.timestamp >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
                AND s.timestamp < :'older_than'::timestamptz
\endif
\if :{?before_at}
                -- In a subquery, since the planner would plan anew for each time.
                AND (s.timestamp, s.uuid) < ((SELECT :'before_at'::timestamptz), :'before'::uuid)
\endif
\if :{?before}
                AND (s.timestamp, s.uuid) < (
                    (
                        SELECT
                            coalesce(
\if :{?before_at}
                                -- Nothing is looked up.
                                'infinity',
\endif
                                (SELECT b.timestamp FROM submit AS b WHERE b.uuid = :'before'::uuid),
                                -- This is no time, but an error: an empty page would be taken for the end.
                                ('before: there is no submit ' || :'before'::uuid)::timestamptz
                            )
                    ), :'before'::uuid
                )
\endif
\if :{?limit}
            ORDER BY s.timestamp DESC, s.uuid DESC
            LIMIT :limit
\endif
        ) AS n
\if :{?limit}
    ORDER BY n.timestamp DESC, n.uuid DESC
    LIMIT :limit
\endif
)

SELECT
    c.uuid,
    c.timestamp,
    p.name AS package,
    p.version,
    i.name AS image,
    g.hash AS repo_hash,
    c.actor,
    c.labels
FROM chosen AS c
JOIN package AS p ON p.id = c.requested_package_id
JOIN image AS i ON i.id = c.requested_image_id
JOIN git_hash AS g ON g.id = c.repo_hash_id
ORDER BY c.timestamp DESC, c.uuid DESC;
