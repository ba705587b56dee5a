-- What was made from this, directly or by further jobs, and where is it released?
--
-- With several filters, what was made from any of them. The files at the start come first, newest jobs
-- first; then what jobs made that read these, and so on, each file once.
--
-- artifact: from this artifact
-- package, -p: from what jobs made for the package of this name
-- version: of this package, only from what jobs made for this version
-- commit: from what jobs made for submits at this commit of the package repository
-- image, -I: from what jobs made in this image
-- endpoint, -e: from what jobs made on this endpoint
-- limit: at most this many

WITH RECURSIVE wanted AS (
    SELECT p.id
    FROM package AS p
    WHERE
        TRUE
\if :{?package}
        AND p.name = :'package'::text
\endif
\if :{?version}
        AND p.version = :'version'::text
\endif
),

-- A node is one artifact, or a job and with it all that it made: each job is followed once, however many
-- ways lead to it, so that the time grows with the edges. Nothing sorts what the walk gives, so it ends when
-- the page is full: 1,700 buffers where a package has 44,000 jobs. Each look-up in LATERAL keeps the order.
node (artifact_uuid, job_uuid) AS (
    (
        -- No row: what the optional clauses add to.
        SELECT
            NULL::uuid AS artifact_uuid,
            NULL::uuid AS job_uuid
        WHERE FALSE
\if :{?artifact}
        UNION ALL
        SELECT
            a.uuid AS artifact_uuid,
            NULL::uuid AS job_uuid
        FROM artifact AS a
        WHERE a.uuid = :'artifact'::uuid
\endif
-- As many jobs as a page has rows fill it, if each of them made something. That is counted, since the planner
-- would take EXISTS for a join, and sort.
\if :{?package}
        UNION ALL
        (
            SELECT
                NULL::uuid AS artifact_uuid,
                j.uuid AS job_uuid
            FROM wanted AS p
            CROSS JOIN LATERAL (
                SELECT
                    j.uuid,
                    j.started_at
                FROM job AS j
                WHERE
                    -- One value, which = ANY hides: else the planner may walk all jobs by time.
                    j.package_id = ANY(ARRAY(SELECT p.id))
                    AND (SELECT count(*) FROM artifact AS a WHERE a.job_uuid = j.uuid) <> 0
\if :{?limit}
                ORDER BY j.package_id DESC, j.started_at DESC, j.uuid DESC
                LIMIT :limit
\endif
            ) AS j
            ORDER BY j.started_at DESC, j.uuid DESC
\if :{?limit}
            LIMIT :limit
\endif
        )
\endif
\if :{?commit}
        UNION ALL
        (
            SELECT
                NULL::uuid AS artifact_uuid,
                j.uuid AS job_uuid
            FROM submit AS s
            JOIN job AS j ON j.submit_uuid = s.uuid
            WHERE
                s.repo_hash_id = (SELECT g.id FROM git_hash AS g WHERE g.hash = :'commit'::text)
                AND (SELECT count(*) FROM artifact AS a WHERE a.job_uuid = j.uuid) <> 0
            ORDER BY s.timestamp DESC, s.uuid DESC, j.started_at DESC, j.uuid DESC
\if :{?limit}
            LIMIT :limit
\endif
        )
\endif
\if :{?image}
        UNION ALL
        (
            SELECT
                NULL::uuid AS artifact_uuid,
                j.uuid AS job_uuid
            FROM job AS j
            WHERE
                j.image_id = ANY(ARRAY(SELECT i.id FROM image AS i WHERE i.name = :'image'::text))
                AND (SELECT count(*) FROM artifact AS a WHERE a.job_uuid = j.uuid) <> 0
            ORDER BY j.image_id DESC, j.started_at DESC, j.uuid DESC
\if :{?limit}
            LIMIT :limit
\endif
        )
\endif
\if :{?endpoint}
        UNION ALL
        (
            SELECT
                NULL::uuid AS artifact_uuid,
                j.uuid AS job_uuid
            FROM job AS j
            WHERE
                j.endpoint_id = ANY(ARRAY(SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text))
                AND (SELECT count(*) FROM artifact AS a WHERE a.job_uuid = j.uuid) <> 0
            ORDER BY j.endpoint_id DESC, j.started_at DESC, j.uuid DESC
\if :{?limit}
            LIMIT :limit
\endif
        )
\endif
    )
    UNION
    SELECT
        NULL::uuid AS artifact_uuid,
        r.job_uuid
    FROM node AS n
    CROSS JOIN LATERAL (
        SELECT n.artifact_uuid AS uuid
        UNION ALL
        (
            SELECT a.uuid
            FROM artifact AS a
            WHERE a.job_uuid = n.job_uuid
            ORDER BY a.path
        )
    ) AS f
    CROSS JOIN LATERAL (
        SELECT ji.job_uuid
        FROM job_input_artifacts AS ji
        WHERE ji.artifact_uuid = f.uuid
        ORDER BY ji.job_uuid DESC
    ) AS r
),

chosen AS (
    SELECT
        row_number() OVER () AS place,
        f.uuid
    FROM node AS n
    CROSS JOIN LATERAL (
        SELECT n.artifact_uuid AS uuid
        WHERE n.artifact_uuid IS NOT NULL
        UNION ALL
        (
            SELECT a.uuid
            FROM artifact AS a
            WHERE
                a.job_uuid = n.job_uuid
\if :{?artifact}
                AND a.uuid <> :'artifact'::uuid
\endif
            ORDER BY a.path
        )
    ) AS f
\if :{?limit}
    LIMIT :limit -- noqa: AM09
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
        SELECT DISTINCT r.store
        FROM release_current AS r
        WHERE r.artifact_uuid = a.uuid
        ORDER BY r.store
    ) AS released,
    ARRAY(
        SELECT ji.artifact_uuid
        FROM job_input_artifacts AS ji
        WHERE ji.job_uuid = a.job_uuid
        ORDER BY ji.artifact_uuid
    ) AS inputs
FROM chosen AS c
JOIN artifact AS a ON a.uuid = c.uuid
LEFT JOIN job AS j ON j.uuid = a.job_uuid
LEFT JOIN package AS p ON p.id = j.package_id
ORDER BY c.place;
