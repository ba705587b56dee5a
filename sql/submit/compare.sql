-- How does this submit differ from the one that is in the store under its uuid?
--
-- No row if there is none.
--
-- timestamp: when the request was made
-- repo_hash: HEAD of the package repository
-- tree: {"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}
-- buildplan: {"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}
-- env: the additional environment, {"name": "value"}
-- actor: who or what made the request
-- labels: what else is said of it, {"key": "value"}

SELECT
    array_remove(
        ARRAY[
            CASE WHEN s.timestamp <> :'timestamp'::timestamptz THEN 'timestamp' END,
            CASE WHEN p.name <> :'package'::text THEN 'package' END,
            CASE WHEN p.version <> :'version'::text THEN 'version' END,
            CASE WHEN i.name <> :'image'::text THEN 'image' END,
            CASE WHEN g.hash <> :'repo_hash'::text THEN 'repo_hash' END,
            CASE WHEN s.tree <> :'tree'::jsonb THEN 'tree' END,
            CASE WHEN s.buildplan <> :'buildplan'::jsonb THEN 'buildplan' END,
            CASE WHEN n.sha256 <> environment_sha256(:'env'::jsonb) THEN 'env' END,
            CASE
                WHEN
                    s.actor IS DISTINCT FROM coalesce(
\if :{?actor}
                        :'actor'::text,
\endif
                        NULL
                    )
                    THEN 'actor'
            END,
            CASE
                WHEN
                    s.labels IS DISTINCT FROM coalesce(
\if :{?labels}
                        :'labels'::jsonb,
\endif
                        NULL::jsonb
                    )
                    THEN 'labels'
            END
        ], NULL
    ) AS differing
FROM submit AS s
JOIN image AS i ON i.id = s.requested_image_id
JOIN package AS p ON p.id = s.requested_package_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
JOIN environment AS n ON n.id = s.environment_id
WHERE s.uuid = :'submit'::uuid
ORDER BY s.uuid;
