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
    FROM job AS j
    JOIN artifact AS a ON a.job_uuid = j.uuid
    WHERE j.submit_uuid = :'submit'::uuid AND j.state = 'success'
    UNION
    SELECT a.uuid
    FROM reuse AS u
    JOIN artifact AS a ON a.job_uuid = u.job_uuid
    WHERE u.submit_uuid = :'submit'::uuid
\endif
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
    ARRAY(
        SELECT w.uuid
        FROM wanted AS w
        LEFT JOIN artifact AS a ON a.uuid = w.uuid
        WHERE a.uuid IS NULL
        ORDER BY w.uuid
    ) AS missing,
    ARRAY(
        SELECT w.uuid
        FROM wanted AS w
        JOIN artifact AS a ON a.uuid = w.uuid
        JOIN job AS j ON j.uuid = a.job_uuid
        WHERE j.state <> 'success'
        ORDER BY w.uuid
    ) AS not_successful,
    ARRAY(SELECT r.artifact_uuid FROM released AS r ORDER BY r.artifact_uuid) AS released,
    (SELECT bool_and(r.same) FROM released AS r) AS same,
    (SELECT count(*) FROM wanted) AS wanted,
    (
        SELECT count(*)
        FROM wanted AS w
        JOIN artifact AS a ON a.uuid = w.uuid
        WHERE
            NOT EXISTS (
                SELECT 1
                FROM release AS r
                JOIN release_store AS rs ON rs.id = r.release_store_id
                WHERE r.artifact_uuid = w.uuid AND rs.name = :'store'::text
            )
            -- As in release/create.
            AND NOT EXISTS (
                SELECT 1
                FROM wanted AS v
                JOIN artifact AS b ON b.uuid = v.uuid
                WHERE b.path_sha256 = a.path_sha256 AND b.uuid > a.uuid
            )
    ) > 0 AS has_new;
