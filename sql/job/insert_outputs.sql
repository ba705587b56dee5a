-- Add the outputs of jobs that the same write added or ended.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- outputs: [{"job": "uuid", "uuid": "…", "path": "…", "sha256": "hexadecimal", "size": 1}], the size in
--   bytes

INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
SELECT
    (o.file ->> 'uuid')::uuid AS uuid,
    j.uuid,
    o.file ->> 'path' AS path,
    decode(o.file ->> 'sha256', 'hex') AS sha256,
    (o.file ->> 'size')::bigint AS size
FROM jsonb_array_elements(:'outputs'::jsonb) AS o (file)
-- In LATERAL with an order: one probe of an index each. Of a store that has few jobs yet, a join would read
-- them all, and a session would keep to that while they grow to thousands.
CROSS JOIN LATERAL (
    SELECT t.uuid
    FROM job AS t
    WHERE t.uuid = (o.file ->> 'job')::uuid AND t.heartbeat_at = :'at'::timestamptz
    ORDER BY t.uuid
    LIMIT 1
) AS j;
