-- What has this job written to its log so far?
--
-- job: the job's uuid

SELECT job_log(j.uuid) AS log
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
