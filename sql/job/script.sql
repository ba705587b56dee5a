-- Which script did this job run?
--
-- job: the job's uuid

SELECT j.script
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
