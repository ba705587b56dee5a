-- Which earlier jobs of this package come nearest to what is about to be built, and what differs?
--
-- Among the newest 100 that have ended; the fewest differences come first. A column is NULL if it does
-- not differ. In env and inputs "old" is missing if something was added, "new" if it was removed, and
-- "job" made the new file.
--
-- package: name of the package
-- version: its version
-- image, -I: the image
-- script: the script that would run
-- env, -E: the whole environment, each as NAME=VALUE
-- inputs: the files that it would read, each as sha256sum prints it: digest, two spaces, path
-- limit: at most this many

WITH candidate AS (
    SELECT
        j.uuid,
        j.state,
        j.started_at,
        j.finished_at,
        p.version,
        i.name AS image,
        j.script
    FROM package AS p
    CROSS JOIN LATERAL (
        SELECT
            j.uuid,
            j.state,
            j.started_at,
            j.finished_at,
            j.image_id,
            j.script
        FROM job AS j
        WHERE j.package_id = p.id AND j.state <> 'running'
        ORDER BY j.started_at DESC, j.uuid DESC
        LIMIT 100
    ) AS j
    JOIN image AS i ON i.id = j.image_id
    WHERE p.name = :'package'::text
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT 100
),

wanted_env AS (
    SELECT
        split_part(w.entry, '=', 1) AS name,
        substr(w.entry, strpos(w.entry, '=') + 1) AS value
    FROM unnest(:'env'::text[]) AS w (entry)
    WHERE w.entry <> ''
),

wanted_input AS (
    SELECT
        -- 64 digits, two spaces, the path.
        substr(w.entry, 67) AS path,
        decode(left(w.entry, 64), 'hex') AS sha256
    FROM unnest(:'inputs'::text[]) AS w (entry)
    WHERE w.entry <> ''
)

SELECT
    c.uuid AS job_uuid,
    c.state,
    c.finished_at,
    nullif(c.version, :'version'::text) AS version,
    nullif(c.image, :'image'::text) AS image,
    e.differences AS env,
    f.differences AS inputs,
    nullif(c.script, :'script'::text) AS script
FROM candidate AS c
CROSS JOIN LATERAL (
    SELECT
        json_agg(
            json_strip_nulls(
                json_build_object('name', coalesce(o.name, w.name), 'old', o.value, 'new', w.value)
            ) ORDER BY coalesce(o.name, w.name)
        ) AS differences
    FROM (
        SELECT
            v.name,
            v.value
        FROM jobenvs AS je
        JOIN envvar AS v ON v.id = je.envvar_id
        WHERE je.job_uuid = c.uuid
    ) AS o
    FULL JOIN wanted_env AS w ON o.name = w.name
    WHERE o.value IS DISTINCT FROM w.value
) AS e
CROSS JOIN LATERAL (
    SELECT
        json_agg(
            json_strip_nulls(
                json_build_object(
                    'path', coalesce(o.path, w.path), 'old', encode(o.sha256, 'hex'),
                    'new', encode(w.sha256, 'hex'), 'job', made.job_uuid
                )
            ) ORDER BY coalesce(o.path, w.path), o.sha256, w.sha256
        ) AS differences
    FROM (
        SELECT
            a.path,
            a.sha256
        FROM job_input_artifacts AS ji
        JOIN artifact AS a ON a.uuid = ji.artifact_uuid
        WHERE ji.job_uuid = c.uuid
    ) AS o
    FULL JOIN wanted_input AS w ON o.path = w.path
    LEFT JOIN LATERAL (
        SELECT a.job_uuid
        FROM artifact AS a
        WHERE a.path_sha256 = text_sha256(w.path) AND a.sha256 = w.sha256 AND a.job_uuid IS NOT NULL
        ORDER BY a.uuid DESC
        LIMIT 1
    ) AS made ON TRUE
    WHERE o.sha256 IS DISTINCT FROM w.sha256
) AS f
ORDER BY
    (c.state <> 'success')::int + (c.version <> :'version'::text)::int + (c.image <> :'image'::text)::int
    + (c.script <> :'script'::text)::int + coalesce(json_array_length(e.differences), 0)
    + coalesce(json_array_length(f.differences), 0),
    c.started_at DESC,
    c.uuid DESC
\if :{?limit}
LIMIT :limit
\endif
;
