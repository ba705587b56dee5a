-- What has this job written to its log so far?
--
-- job: the job's uuid

-- Both parts, always: a chunk that arrived while the job was being ended stays a chunk.
SELECT
    concat(
        j.log,
        (SELECT string_agg(c.chunk, '' ORDER BY c.seq) FROM job_log_chunk AS c WHERE c.job_uuid = j.uuid)
    ) AS log
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
