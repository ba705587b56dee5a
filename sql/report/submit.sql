-- What did this submit request, and what became of its jobs?
--
-- submit: the submit's uuid

SELECT
    s.uuid,
    s.timestamp,
    p.name AS package,
    p.version,
    i.name AS image,
    g.hash AS repo_hash,
    s.actor,
    s.labels,
    (
        SELECT coalesce(json_object_agg(v.name, v.value), '{}')
        FROM submitenvs AS se
        JOIN envvar AS v ON v.id = se.envvar_id
        WHERE se.submit_uuid = s.uuid
    ) AS env,
    n.running,
    n.success,
    n.error,
    n.lost,
    n.jobs
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE j.state = 'running') AS running,
        count(*) FILTER (WHERE j.state = 'success') AS success,
        count(*) FILTER (WHERE j.state = 'error') AS error,
        count(*) FILTER (WHERE j.state = 'lost') AS lost,
        coalesce(
            json_agg(
                json_build_object(
                    'uuid', j.uuid, 'package', jp.name, 'version', jp.version, 'state', j.state,
                    'endpoint', e.name, 'started_at', rfc3339(j.started_at),
                    'finished_at', rfc3339(j.finished_at)
                ) ORDER BY j.started_at, j.uuid
            ), '[]'
        ) AS jobs
    FROM job AS j
    JOIN package AS jp ON jp.id = j.package_id
    JOIN endpoint AS e ON e.id = j.endpoint_id
    WHERE j.submit_uuid = s.uuid
) AS n
WHERE s.uuid = :'submit'::uuid
ORDER BY s.uuid;
