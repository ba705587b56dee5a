-- Add the inputs of jobs that the same write added.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- inputs: [{"job": "uuid", "artifact": "uuid"}]

INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
SELECT
    (i.input ->> 'job')::uuid AS job_uuid,
    (i.input ->> 'artifact')::uuid AS artifact_uuid
FROM jsonb_array_elements(:'inputs'::jsonb) AS i (input)
-- A scalar subquery: one probe of an index each. Of a store that has few jobs yet, a join would read them
-- all, and a session would keep to that while they grow to thousands.
WHERE (SELECT j.heartbeat_at FROM job AS j WHERE j.uuid = (i.input ->> 'job')::uuid) = :'at'::timestamptz;
