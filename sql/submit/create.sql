-- Record a submit, with the environment that it adds to its jobs.
--
-- Without a row a shared value is not in the store yet, or the uuid is there already: submit/compare tells
-- whether with the same content.
--
-- timestamp: when the request was made
-- repo_hash: HEAD of the package repository
-- tree: {"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}
-- buildplan: {"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}
-- env: the additional environment, {"name": "value"}
-- actor: who or what made the request
-- labels: what else is said of it, {"key": "value"}

INSERT INTO submit (
\if :{?actor}
    actor,
\endif
\if :{?labels}
    labels,
\endif
    uuid, timestamp, requested_image_id, requested_package_id, repo_hash_id, environment_id, tree,
    buildplan
)
SELECT
\if :{?actor}
    :'actor'::text AS actor,
\endif
\if :{?labels}
    :'labels'::jsonb AS labels,
\endif
    :'submit'::uuid AS uuid,
    :'timestamp'::timestamptz,
    i.id,
    p.id,
    g.id,
    n.id,
    :'tree'::jsonb,
    :'buildplan'::jsonb
FROM image AS i
CROSS JOIN package AS p
CROSS JOIN git_hash AS g
CROSS JOIN environment AS n
WHERE
    i.name = :'image'::text
    AND p.name = :'package'::text
    AND p.version = :'version'::text
    AND g.hash = :'repo_hash'::text
    AND n.sha256 = environment_sha256(:'env'::jsonb)
ON CONFLICT (uuid) DO NOTHING
RETURNING uuid;
