-- What was made from this, directly or by further jobs, and where is it released?
--
-- With several filters, what was made from any of them. The files at the start are rows as well.
--
-- artifact: from this artifact
-- package, -p: from what jobs made for this package: NAME, or 'NAME VERSION'
-- commit: from what jobs made for submits at this commit of the package repository
-- image, -I: from what jobs made in this image
-- endpoint, -e: from what jobs made on this endpoint
-- limit: at most this many

WITH RECURSIVE origin (uuid) AS (
    -- No row: what the optional clauses add to.
    SELECT NULL::uuid AS uuid
    WHERE FALSE
\if :{?artifact}
    UNION ALL
    SELECT :'artifact'::uuid AS uuid
\endif
\if :{?package}
    UNION ALL
    SELECT a.uuid
    FROM package AS p
    JOIN job AS j ON j.package_id = p.id
    JOIN artifact AS a ON a.job_uuid = j.uuid
    WHERE :'package'::text IN (p.name, p.name || ' ' || p.version)
\endif
\if :{?commit}
    UNION ALL
    SELECT a.uuid
    FROM git_hash AS g
    JOIN submit AS s ON s.repo_hash_id = g.id
    JOIN job AS j ON j.submit_uuid = s.uuid
    JOIN artifact AS a ON a.job_uuid = j.uuid
    WHERE g.hash = :'commit'::text
\endif
\if :{?image}
    UNION ALL
    SELECT a.uuid
    FROM image AS i
    JOIN job AS j ON j.image_id = i.id
    JOIN artifact AS a ON a.job_uuid = j.uuid
    WHERE i.name = :'image'::text
\endif
\if :{?endpoint}
    UNION ALL
    SELECT a.uuid
    FROM endpoint AS e
    JOIN job AS j ON j.endpoint_id = e.id
    JOIN artifact AS a ON a.job_uuid = j.uuid
    WHERE e.name = :'endpoint'::text
\endif
),

-- Walks over jobs and artifacts in turn: each is followed once, however many ways lead to it, so that the
-- time grows with the edges. The array: the planner expects ten rows of it, but so many of origin
-- that it would read all jobs and artifacts.
node (is_job, uuid) AS (
    SELECT
        FALSE AS is_job,
        o.uuid
    FROM unnest(ARRAY(SELECT t.uuid FROM origin AS t)) AS o (uuid)
    UNION
    SELECT
        NOT n.is_job AS is_job,
        x.uuid
    FROM node AS n
    CROSS JOIN LATERAL (
        SELECT a.uuid
        FROM artifact AS a
        WHERE n.is_job AND a.job_uuid = n.uuid
        UNION ALL
        SELECT ji.job_uuid
        FROM job_input_artifacts AS ji
        WHERE NOT n.is_job AND ji.artifact_uuid = n.uuid
    ) AS x
),

chosen AS (
    SELECT
        a.uuid,
        a.path,
        a.sha256,
        a.size,
        a.job_uuid
    FROM node AS n
    JOIN artifact AS a ON a.uuid = n.uuid
    WHERE NOT n.is_job
    ORDER BY a.path, a.uuid
\if :{?limit}
    LIMIT :limit
\endif
)

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    p.name AS package,
    p.version,
    j.state,
    j.finished_at,
    ARRAY(
        SELECT DISTINCT c.store
        FROM release_current AS c
        WHERE c.artifact_uuid = a.uuid
        ORDER BY c.store
    ) AS released,
    ARRAY(
        SELECT ji.artifact_uuid
        FROM job_input_artifacts AS ji
        WHERE ji.job_uuid = a.job_uuid
        ORDER BY ji.artifact_uuid
    ) AS inputs
FROM chosen AS a
LEFT JOIN job AS j ON j.uuid = a.job_uuid
LEFT JOIN package AS p ON p.id = j.package_id
ORDER BY a.path, a.uuid;
