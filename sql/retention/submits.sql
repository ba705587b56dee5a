-- How many jobs have these submits, and which ones of others have they reused?
--
-- submits: uuids of submits

SELECT
    s.uuid,
    (SELECT count(*) FROM job AS j WHERE j.submit_uuid = s.uuid) AS jobs,
    ARRAY(SELECT u.job_uuid FROM reuse AS u WHERE u.submit_uuid = s.uuid ORDER BY u.job_uuid) AS reused
FROM submit AS s
WHERE s.uuid = ANY(:'submits'::uuid[])
ORDER BY s.uuid;
