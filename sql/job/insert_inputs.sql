-- Add the inputs of jobs that the same write added.
--
-- at: the moment of this write; a job that has another was there before, and gets none
-- inputs: {"uuid of the job": ["uuid of an artifact"]}

INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
SELECT
    j.uuid,
    a.uuid::uuid
FROM jsonb_each(:'inputs'::jsonb) AS i (job, artifacts)
JOIN job AS j ON j.uuid = i.job::uuid
CROSS JOIN LATERAL jsonb_array_elements_text(i.artifacts) AS a (uuid)
WHERE j.heartbeat_at = :'at'::timestamptz
RETURNING artifact_uuid;
