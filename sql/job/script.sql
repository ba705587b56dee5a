-- Which script did this job run?

SELECT j.script
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
