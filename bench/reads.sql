-- Choose a hundred successful jobs from all over the store, and give them their real fingerprints.

CREATE TEMPORARY TABLE IF NOT EXISTS chosen AS
SELECT u.uuid
FROM (
    SELECT
        percentile_disc(ARRAY(SELECT n / 101.0 FROM generate_series(1, 100) AS n))
            WITHIN GROUP (ORDER BY j.uuid) AS uuids
    FROM job AS j TABLESAMPLE SYSTEM (10)
    WHERE j.state = 'success'
) AS t
CROSS JOIN LATERAL unnest(t.uuids) AS u (uuid);

UPDATE job AS j
SET
    fingerprint = job_fingerprint(
        t.package, t.version, t.image, j.image_sha256, j.script, t.environment_sha256, t.files
    )
FROM (
    SELECT
        j.uuid,
        p.name AS package,
        p.version,
        i.name AS image,
        n.sha256 AS environment_sha256,
        coalesce(array_agg(sha256sum(a.sha256, a.path)) FILTER (WHERE a.uuid IS NOT NULL), '{}') AS files
    FROM chosen AS c
    JOIN job AS j ON j.uuid = c.uuid
    JOIN package AS p ON p.id = j.package_id
    JOIN image AS i ON i.id = j.image_id
    JOIN environment AS n ON n.id = j.environment_id
    LEFT JOIN job_input_artifacts AS ji ON ji.job_uuid = j.uuid
    LEFT JOIN artifact AS a ON a.uuid = ji.artifact_uuid
    GROUP BY j.uuid, p.name, p.version, i.name, n.sha256
) AS t
WHERE t.uuid = j.uuid;

SELECT
    j.uuid AS job,
    j.submit_uuid AS submit,
    p.name AS package,
    p.version,
    i.name AS image,
    j.script,
    (
        SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')::text
        FROM jobenvs AS je
        JOIN envvar AS v ON v.id = je.envvar_id
        WHERE je.job_uuid = j.uuid
    ) AS env,
    (
        SELECT
            coalesce(
                jsonb_agg(sha256sum(a.sha256, a.path)), '[]'
            )::text
        FROM job_input_artifacts AS ji
        JOIN artifact AS a ON a.uuid = ji.artifact_uuid
        WHERE ji.job_uuid = j.uuid
    ) AS inputs,
    (SELECT a.uuid FROM artifact AS a WHERE a.job_uuid = j.uuid LIMIT 1) AS artifact
FROM chosen AS c
JOIN job AS j ON j.uuid = c.uuid
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
ORDER BY j.uuid;
