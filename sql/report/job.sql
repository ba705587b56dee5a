-- What is this job, how did it end, and what did it read and make?
--
-- job: the job's uuid
-- log, -L: also its log, unless it was removed; one over 512 MiB is for log-of
-- script, -s: also its script
-- env, -E: also its environment

SELECT
    j.uuid,
    j.submit_uuid,
    p.name AS package,
    p.version,
    i.name AS image,
    e.name AS endpoint,
    j.state,
    j.started_at,
    j.finished_at,
    j.reason,
    j.exit_code,
    j.measurements,
    j.heartbeat_at,
    j.image_sha256,
    j.container_hash,
    j.fingerprint,
    j.log_size,
    j.state <> 'running' AND j.log IS NULL AS log_removed,
    j.finished_at - j.started_at AS duration,
    text_sha256(j.failure) AS failure_sha256,
    (
        SELECT
            coalesce(
                json_agg(
                    json_build_object(
                        'uuid', a.uuid, 'path', a.path, 'sha256', encode(a.sha256, 'hex'),
                        'size', a.size, 'job_uuid', a.job_uuid
                    ) ORDER BY a.path, a.uuid
                ), '[]'
            )
        FROM job_input_artifacts AS ji
        JOIN artifact AS a ON a.uuid = ji.artifact_uuid
        WHERE ji.job_uuid = j.uuid
    ) AS inputs,
    (
        SELECT
            coalesce(
                json_agg(
                    json_build_object(
                        'uuid', a.uuid, 'path', a.path, 'sha256', encode(a.sha256, 'hex'), 'size', a.size
                    ) ORDER BY a.path
                ), '[]'
            )
        FROM artifact AS a
        WHERE a.job_uuid = j.uuid
    ) AS outputs,
    -- The next three are NULL if they are not asked for.
    coalesce(
\if :{?env}
        (
            SELECT coalesce(json_object_agg(v.name, v.value ORDER BY v.name), '{}')
            FROM jobenvs AS je
            JOIN envvar AS v ON v.id = je.envvar_id
            WHERE :'env'::boolean AND je.job_uuid = j.uuid
        ),
\endif
        NULL
    ) AS env,
    coalesce(
\if :{?script}
        CASE WHEN :'script'::boolean THEN j.script END,
\endif
        NULL
    ) AS script,
    coalesce(
\if :{?log}
        CASE WHEN :'log'::boolean AND c.octets <= 536870912
            THEN
                CASE WHEN j.state = 'running' THEN '' ELSE j.log END
                || (
                    SELECT coalesce(string_agg(k.chunk, '' ORDER BY k.seq), '')
                    FROM job_log_chunk AS k
                    WHERE k.job_uuid = j.uuid
                )
        END,
\endif
        NULL
    ) AS log
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(octet_length(k.chunk)), 0) AS octets
    FROM job_log_chunk AS k
    WHERE k.job_uuid = j.uuid
) AS c
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
