-- What is known of all submits and jobs, in the tables of butido.sql: one row and one document each.

SELECT
    s.uuid,
    jsonb_build_array(
        s.submit_time, p.name, p.version, i.name, g.hash, s.tree, s.buildplan,
        (
            SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
            FROM submit_envs AS se
            JOIN envvars AS v ON v.id = se.env_id
            WHERE se.submit_id = s.id
        )
    ) AS facts
FROM submits AS s
JOIN packages AS p ON p.id = s.requested_package_id
JOIN images AS i ON i.id = s.requested_image_id
JOIN githashes AS g ON g.id = s.repo_hash_id
UNION ALL
SELECT
    j.uuid,
    jsonb_build_array(
        s.uuid, p.name, p.version, i.name, e.name, j.state, j.started_at, j.finished_at,
        j.container_hash, j.script_text, j.log_text,
        (
            SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
            FROM job_envs AS je
            JOIN envvars AS v ON v.id = je.env_id
            WHERE je.job_id = j.id
        ),
        (
            SELECT coalesce(jsonb_agg(a.uuid ORDER BY a.uuid), '[]')
            FROM job_input_artifacts AS ji
            JOIN artifacts AS a ON a.id = ji.artifact_id
            WHERE ji.job_id = j.id
        ),
        (
            SELECT
                coalesce(
                    jsonb_agg(jsonb_build_array(a.uuid, a.path, a.sha256, a.size) ORDER BY a.path), '[]'
                )
            FROM artifacts AS a
            WHERE a.job_id = j.id
        )
    ) AS facts
FROM jobs AS j
JOIN submits AS s ON s.id = j.submit_id
JOIN packages AS p ON p.id = j.package_id
JOIN images AS i ON i.id = j.image_id
JOIN endpoints AS e ON e.id = j.endpoint_id
ORDER BY uuid;
