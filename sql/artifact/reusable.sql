-- Has exactly this been built before, and what came out of it?
--
-- The newest successful job with the same package, image, script, environment and inputs: a row
-- for each of its outputs, and one with an empty artifact where it has none.
--
-- env_names: names of the whole environment, beside env_values
-- env_values: its values
-- input_paths: paths of the inputs, beside input_sha256s
-- input_sha256s: SHA-256 of each input's content

WITH newest AS (
    SELECT
        j.uuid,
        j.finished_at
    FROM job AS j
    WHERE
        j.state = 'success'
        AND j.fingerprint = job_fingerprint(
            :'package'::text, :'version'::text, :'image'::text, :'script'::text,
            :'env_names'::text[], :'env_values'::text[], :'input_paths'::text[], :'input_sha256s'::bytea[]
        )
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT 1
)

SELECT
    j.uuid AS job_uuid,
    j.finished_at,
    a.uuid,
    a.path,
    a.sha256,
    a.size
FROM newest AS j
LEFT JOIN artifact AS a ON a.job_uuid = j.uuid
ORDER BY a.path COLLATE "C", a.uuid;
