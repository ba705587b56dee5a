-- Add the outputs of jobs that the same write added or ended.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- outputs: [{"job": "uuid", "uuid": "…", "path": "…", "sha256": "hexadecimal", "size": 1}], the size in
--   bytes

INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
SELECT
    (o.file ->> 'uuid')::uuid AS uuid,
    (o.file ->> 'job')::uuid AS job_uuid,
    o.file ->> 'path' AS path,
    decode(o.file ->> 'sha256', 'hex') AS sha256,
    (o.file ->> 'size')::bigint AS size
FROM jsonb_array_elements(:'outputs'::jsonb) AS o (file)
-- A scalar subquery: one probe of an index each. Of a store that has few jobs yet, a join would read them
-- all, and a session would keep to that while they grow to thousands.
WHERE (SELECT j.heartbeat_at FROM job AS j WHERE j.uuid = (o.file ->> 'job')::uuid) = :'at'::timestamptz;
