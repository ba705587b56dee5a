-- Which files went into this artifact, down to those that no job made?
--
-- Each file once, with the shortest distance: 1 for an input of the job that made the artifact.
--
-- artifact: the artifact's uuid

-- Arrays, so that a file reached on many ways is followed once.
WITH RECURSIVE step (depth, frontier, seen) AS (
    SELECT
        0 AS depth,
        ARRAY[:'artifact'::uuid] AS frontier,
        ARRAY[:'artifact'::uuid] AS seen
    UNION ALL
    SELECT
        s.depth + 1 AS depth,
        n.frontier,
        s.seen || n.frontier AS seen
    FROM step AS s
    CROSS JOIN LATERAL (
        SELECT
            ARRAY(
                SELECT ji.artifact_uuid
                FROM artifact AS a
                JOIN job_input_artifacts AS ji ON ji.job_uuid = a.job_uuid
                WHERE a.uuid = ANY(s.frontier)
                EXCEPT
                SELECT t.uuid
                FROM unnest(s.seen) AS t (uuid)
            ) AS frontier
    ) AS n
    WHERE n.frontier <> '{}'
)

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    s.depth
FROM step AS s
CROSS JOIN LATERAL unnest(s.frontier) AS t (uuid)
JOIN artifact AS a ON a.uuid = t.uuid
WHERE s.depth > 0
ORDER BY s.depth, a.path COLLATE "C", a.uuid;
