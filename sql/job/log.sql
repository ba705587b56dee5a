-- What has this job written to its log so far?

-- Both parts, always: a log too long for job.log stays in its chunks.
SELECT
    concat(
        j.log,
        (SELECT string_agg(c.chunk, '' ORDER BY c.seq) FROM job_log_chunk AS c WHERE c.job_uuid = j.uuid)
    ) AS log
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
