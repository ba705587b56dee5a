-- Add the outputs of jobs that the same write added or ended.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- outputs: {"uuid of the job": {"path": {"uuid": "…", "sha256": "hexadecimal", "size": 1}}}, the size
--   in bytes

INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
SELECT
    (f.file ->> 'uuid')::uuid AS uuid,
    j.uuid,
    f.path,
    decode(f.file ->> 'sha256', 'hex') AS sha256,
    (f.file ->> 'size')::bigint AS size
FROM jsonb_each(:'outputs'::jsonb) AS o (job, files)
JOIN job AS j ON j.uuid = o.job::uuid
CROSS JOIN LATERAL jsonb_each(o.files) AS f (path, file)
WHERE j.heartbeat_at = :'at'::timestamptz
RETURNING uuid;
