-- What is known of all submits and jobs, in the store's tables: one row and one document each.

SELECT
    s.uuid,
    jsonb_build_array(
        s.timestamp, p.name, p.version, i.name, g.hash, s.tree, s.buildplan,
        (
            SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
            FROM submitenvs AS se
            JOIN envvar AS v ON v.id = se.envvar_id
            WHERE se.submit_uuid = s.uuid
        )
    ) AS facts
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
UNION ALL
SELECT
    j.uuid,
    jsonb_build_array(
        j.submit_uuid, p.name, p.version, i.name, e.name, j.state, j.started_at, j.finished_at,
        j.container_hash, j.script, j.log,
        (
            SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
            FROM jobenvs AS je
            JOIN envvar AS v ON v.id = je.envvar_id
            WHERE je.job_uuid = j.uuid
        ),
        (
            SELECT coalesce(jsonb_agg(ji.artifact_uuid ORDER BY ji.artifact_uuid), '[]')
            FROM job_input_artifacts AS ji
            WHERE ji.job_uuid = j.uuid
        ),
        (
            SELECT
                coalesce(
                    jsonb_agg(jsonb_build_array(a.uuid, a.path, a.sha256, a.size) ORDER BY a.path), '[]'
                )
            FROM artifact AS a
            WHERE a.job_uuid = j.uuid
        )
    ) AS facts
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
ORDER BY uuid;
