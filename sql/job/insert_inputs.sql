-- Add the inputs of jobs that the same write added.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- inputs: [{"job": "uuid", "artifact": "uuid"}]

INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
SELECT
    j.uuid,
    (i.input ->> 'artifact')::uuid AS artifact_uuid
FROM jsonb_array_elements(:'inputs'::jsonb) AS i (input)
JOIN job AS j ON j.uuid = (i.input ->> 'job')::uuid
WHERE j.heartbeat_at = :'at'::timestamptz;
