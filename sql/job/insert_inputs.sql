-- Add the inputs of jobs that the same write added.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- inputs: [{"job": "uuid", "artifact": "uuid"}]

INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
SELECT
    j.uuid,
    (i.input ->> 'artifact')::uuid AS artifact_uuid
FROM jsonb_array_elements(:'inputs'::jsonb) AS i (input)
-- In LATERAL with an order: one probe of an index each. Of a store that has few jobs yet, a join would read
-- them all, and a session would keep to that while they grow to thousands.
CROSS JOIN LATERAL (
    SELECT t.uuid
    FROM job AS t
    WHERE t.uuid = (i.input ->> 'job')::uuid AND t.heartbeat_at = :'at'::timestamptz
    ORDER BY t.uuid
    LIMIT 1
) AS j;
