-- Which job has done just this build, or is about to?
--
-- Asked when job/insert, with besides, added nothing. The newest success: a row for each of its outputs, or
-- one without an artifact if it has none. Else the job that is to do it once, a row without an artifact; else
-- a row without a job. The fingerprint is NULL if the content of an input is unknown.
--
-- image_sha256: the digest that the image's name means; empty where it is not known
-- env: the whole environment, {"name": "value"}
-- inputs: the artifacts that are copied into the container, [{"artifact": "uuid"}]
-- besides: successful jobs that do not count, as their results are of no use
-- silent_for: how long without a sign of life, by the database's clock, makes a job silent

WITH asked AS (
    SELECT
        job_fingerprint(
            :'package'::text, :'version'::text, :'image'::text, nullif(:'image_sha256'::bytea, ''),
            :'script'::text, environment_sha256(:'env'::jsonb),
            ARRAY(
                SELECT (
                    SELECT sha256sum(a.sha256, a.path)
                    FROM artifact AS a
                    WHERE a.uuid = (t.input ->> 'artifact')::uuid
                )
                FROM jsonb_array_elements(:'inputs'::jsonb) AS t (input)
            )
        ) AS fingerprint
),

done AS (
    SELECT j.uuid
    FROM job AS j
    WHERE
        j.state = 'success'
        AND j.fingerprint = (SELECT k.fingerprint FROM asked AS k)
        AND j.uuid <> ALL(:'besides'::uuid[])
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT 1
),

same AS (
    SELECT d.uuid
    FROM done AS d
    UNION ALL
    SELECT j.uuid
    FROM job AS j
    WHERE
        j.claim IS NOT NULL
        AND j.state = 'running'
        AND j.fingerprint = (SELECT k.fingerprint FROM asked AS k)
        AND NOT EXISTS (SELECT 1 FROM done)
)

SELECT
    k.fingerprint,
    j.state,
    j.uuid AS job_uuid,
    j.finished_at,
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    e.name AS endpoint,
    j.started_at,
    j.heartbeat_at,
    j.heartbeat_at < now() - :'silent_for'::interval AS is_silent
FROM asked AS k
LEFT JOIN same AS m ON TRUE
LEFT JOIN job AS j ON j.uuid = m.uuid
LEFT JOIN endpoint AS e ON e.id = j.endpoint_id
LEFT JOIN artifact AS a ON a.job_uuid = j.uuid
ORDER BY a.path, a.uuid;
