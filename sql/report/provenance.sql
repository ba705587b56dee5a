-- What went into this artifact, down to the source files, and which job made each?
--
-- The artifact itself comes first; each file once, however many ways lead to it.
--
-- artifact: the artifact's uuid

-- Walks over jobs and artifacts in turn: each is followed once, however many ways lead to it, so that the
-- time grows with the edges.
WITH RECURSIVE node (is_job, uuid) AS (
    SELECT
        FALSE AS is_job,
        :'artifact'::uuid AS uuid
    UNION
    SELECT
        NOT n.is_job AS is_job,
        x.uuid
    FROM node AS n
    CROSS JOIN LATERAL (
        SELECT ji.artifact_uuid AS uuid
        FROM job_input_artifacts AS ji
        WHERE n.is_job AND ji.job_uuid = n.uuid
        UNION ALL
        SELECT a.job_uuid
        FROM artifact AS a
        WHERE NOT n.is_job AND a.uuid = n.uuid AND a.job_uuid IS NOT NULL
    ) AS x
)

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    p.name AS package,
    p.version,
    i.name AS image,
    j.image_sha256,
    e.name AS endpoint,
    g.hash AS repo_hash,
    j.finished_at,
    ARRAY(
        SELECT ji.artifact_uuid
        FROM job_input_artifacts AS ji
        WHERE ji.job_uuid = a.job_uuid
        ORDER BY ji.artifact_uuid
    ) AS inputs
FROM node AS n
JOIN artifact AS a ON a.uuid = n.uuid
LEFT JOIN job AS j ON j.uuid = a.job_uuid
LEFT JOIN package AS p ON p.id = j.package_id
LEFT JOIN image AS i ON i.id = j.image_id
LEFT JOIN endpoint AS e ON e.id = j.endpoint_id
LEFT JOIN submit AS s ON s.uuid = j.submit_uuid
LEFT JOIN git_hash AS g ON g.id = s.repo_hash_id
WHERE NOT n.is_job
ORDER BY a.uuid = :'artifact'::uuid DESC, a.path ASC, a.uuid ASC;
