-- Has exactly this been built before, and what came out of it?
--
-- The newest successful job with the same fingerprint: a row for each of its outputs, or one without an
-- artifact if it has none.
--
-- image_sha256: the digest that the image's name means; without it only a job of which it is not known
--   is the same
-- env: the whole environment, {"name": "value"}
-- inputs: the files that it would read, each as sha256sum() gives it: ["digest  path"]; null for one
--   whose content is unknown, with which nothing was built before

WITH newest AS (
    SELECT
        j.uuid,
        j.finished_at
    FROM job AS j
    WHERE
        j.state = 'success'
        AND j.fingerprint = (
            -- A subquery is computed once, whatever the plan.
            SELECT
                job_fingerprint(
                    :'package'::text, :'version'::text, :'image'::text, coalesce(
\if :{?image_sha256}
                        :'image_sha256'::bytea,
\endif
                        NULL::bytea
                    ), :'script'::text,
                    environment_sha256(:'env'::jsonb),
                    ARRAY(SELECT i.file FROM jsonb_array_elements_text(:'inputs'::jsonb) AS i (file))
                )
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
ORDER BY a.path, a.uuid;
