-- What did this submit request, and what became of its jobs?
--
-- Its own jobs, and earlier ones that it reused, both in the order of their starts. Reuse saved the seconds
-- that the earlier jobs took; one that ends before it starts, by a clock that was set back, counts as none.
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
        SELECT coalesce(json_object_agg(v.name, v.value ORDER BY v.name), '{}')
        FROM submitenvs AS se
        JOIN envvar AS v ON v.id = se.envvar_id
        WHERE se.submit_uuid = s.uuid
    ) AS env,
    n.running,
    n.success,
    n.error,
    n.lost,
    n.reused,
    n.seconds_saved,
    n.jobs
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE NOT d.reused AND j.state = 'running') AS running,
        count(*) FILTER (WHERE NOT d.reused AND j.state = 'success') AS success,
        count(*) FILTER (WHERE NOT d.reused AND j.state = 'error') AS error,
        count(*) FILTER (WHERE NOT d.reused AND j.state = 'lost') AS lost,
        count(*) FILTER (WHERE d.reused) AS reused,
        coalesce(
            sum(date_part('epoch', j.finished_at - j.started_at)) FILTER (
                WHERE d.reused AND j.finished_at >= j.started_at
            ), 0
        ) AS seconds_saved,
        coalesce(
            json_agg(
                json_build_object(
                    'uuid', j.uuid, 'package', jp.name, 'version', jp.version, 'state', j.state,
                    'reused', d.reused, 'endpoint', e.name, 'started_at', rfc3339(j.started_at),
                    'finished_at', rfc3339(j.finished_at)
                ) ORDER BY j.started_at, j.uuid
            ), '[]'
        ) AS jobs
    FROM (
        SELECT
            o.uuid,
            FALSE AS reused
        FROM job AS o
        WHERE o.submit_uuid = s.uuid
        UNION ALL
        SELECT
            u.job_uuid AS uuid,
            TRUE AS reused
        FROM reuse AS u
        WHERE u.submit_uuid = s.uuid
    ) AS d
    JOIN job AS j ON j.uuid = d.uuid
    JOIN package AS jp ON jp.id = j.package_id
    JOIN endpoint AS e ON e.id = j.endpoint_id
) AS n
WHERE s.uuid = :'submit'::uuid
ORDER BY s.uuid;
