-- Why did this act release nothing, or what has it released before?
--
-- One row: the artifacts that are missing and those whose job did not succeed; what this act has released
-- before, and whether with the same store, time, actor and artifacts; how many artifacts it wants; and
-- whether one that it would release was never in that release store.
--
-- release: uuid of this act of releasing
-- store: name of the release store
-- timestamp: when it is released
-- actor: who releases it
-- artifacts: uuids of artifacts
-- submit: all that successful jobs of this submit made, or jobs that it reused

WITH wanted AS (
    -- No row: what the optional clauses add to.
    SELECT NULL::uuid AS uuid
    WHERE FALSE
\if :{?artifacts}
    UNION
    SELECT t.uuid
    FROM unnest(:'artifacts'::uuid[]) AS t (uuid)
\endif
\if :{?submit}
    UNION
    SELECT a.uuid
    FROM (
        -- The state is no condition, for which the server might read all jobs that have it.
        SELECT CASE WHEN j.state = 'success' THEN j.uuid END AS job_uuid
        FROM job AS j
        WHERE j.submit_uuid = :'submit'::uuid
        UNION ALL
        SELECT u.job_uuid
        FROM reuse AS u
        WHERE u.submit_uuid = :'submit'::uuid
    ) AS d
    -- One probe of an index each, as in job/insert_inputs.
    CROSS JOIN LATERAL (
        SELECT a.uuid
        FROM artifact AS a
        WHERE a.job_uuid = d.job_uuid
        ORDER BY a.uuid
    ) AS a
\endif
),

-- path_sha256 is NULL if there is no such artifact, state if no job made it.
file AS (
    SELECT
        w.uuid,
        a.path_sha256,
        a.state,
        -- A place holds one file: else each further release of these would replace one by the other.
        row_number() OVER (PARTITION BY a.path_sha256 ORDER BY w.uuid DESC) = 1 AS is_last
    FROM wanted AS w
    LEFT JOIN LATERAL (
        SELECT
            a.path_sha256,
            (SELECT j.state FROM job AS j WHERE j.uuid = a.job_uuid) AS state
        FROM artifact AS a
        WHERE a.uuid = w.uuid
        ORDER BY a.uuid
        LIMIT 1
    ) AS a ON TRUE
),

released AS (
    SELECT
        r.artifact_uuid,
        (rs.name, r.timestamp, r.actor) = (:'store'::text, :'timestamp'::timestamptz, :'actor'::text)
        AND w.uuid IS NOT NULL AS same
    FROM release AS r
    JOIN release_store AS rs ON rs.id = r.release_store_id
    LEFT JOIN wanted AS w ON w.uuid = r.artifact_uuid
    WHERE r.uuid = :'release'::uuid
)

SELECT
    ARRAY(SELECT f.uuid FROM file AS f WHERE f.path_sha256 IS NULL ORDER BY f.uuid) AS missing,
    ARRAY(SELECT f.uuid FROM file AS f WHERE f.state <> 'success' ORDER BY f.uuid) AS not_successful,
    ARRAY(SELECT r.artifact_uuid FROM released AS r ORDER BY r.artifact_uuid) AS released,
    (SELECT bool_and(r.same) FROM released AS r) AS same,
    (SELECT count(*) FROM wanted) AS wanted,
    (
        SELECT count(*)
        FROM file AS f
        WHERE
            f.path_sha256 IS NOT NULL
            AND f.is_last
            AND (
                SELECT count(*)
                FROM release AS r
                JOIN release_store AS rs ON rs.id = r.release_store_id
                WHERE r.artifact_uuid = f.uuid AND rs.name = :'store'::text
            ) = 0
    ) > 0 AS has_new;
