-- Record that a submit takes the outputs of earlier jobs, rather than run them again.
--
-- All or none; a row for each job that the submit was not known to reuse. Without a row submit/compare_reuse
-- tells why.
--
-- jobs: uuids of successful jobs of other submits
-- timestamp: when the builder chose them

WITH wanted AS (
    SELECT w.uuid
    FROM unnest(:'jobs'::uuid[]) AS w (uuid)
)

INSERT INTO reuse (submit_uuid, job_uuid, package_id, timestamp)
SELECT
    s.uuid,
    w.uuid,
    (SELECT j.package_id FROM job AS j WHERE j.uuid = w.uuid) AS package_id,
    :'timestamp'::timestamptz
FROM submit AS s
CROSS JOIN wanted AS w
WHERE
    s.uuid = :'submit'::uuid
    AND NOT EXISTS (
        SELECT 1
        FROM wanted AS v
        WHERE (
            SELECT j.state = 'success' AND j.submit_uuid <> :'submit'::uuid
            FROM job AS j
            WHERE j.uuid = v.uuid
        ) IS NOT TRUE
    )
-- Sorted, so that two that record the same at once do not wait for each other in a ring.
ORDER BY w.uuid
ON CONFLICT (submit_uuid, job_uuid) DO NOTHING
RETURNING job_uuid;
