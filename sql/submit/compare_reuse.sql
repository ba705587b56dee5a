-- Why did a submit take nothing new of these jobs?
--
-- A row for each job, whose state is null if there is no such job; one without a job if there are none. No
-- row if there is no such submit.
--
-- jobs: uuids of jobs

SELECT
    w.uuid AS job_uuid,
    j.state,
    j.submit_uuid = s.uuid AS is_own,
    u.job_uuid IS NOT NULL AS is_recorded
FROM submit AS s
LEFT JOIN unnest(:'jobs'::uuid[]) AS w (uuid) ON TRUE
-- One probe of an index each, as in job/insert_inputs.
LEFT JOIN LATERAL (
    SELECT
        j.state,
        j.submit_uuid
    FROM job AS j
    WHERE j.uuid = w.uuid
    ORDER BY j.uuid
    LIMIT 1
) AS j ON TRUE
LEFT JOIN reuse AS u ON u.submit_uuid = s.uuid AND u.job_uuid = w.uuid
WHERE s.uuid = :'submit'::uuid
ORDER BY w.uuid;
