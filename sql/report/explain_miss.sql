-- Which earlier jobs of this package come nearest to what is about to be built, and what differs?
--
-- Among the newest 100 that have ended; the fewest differences come first. A column is NULL if it does
-- not differ. In env and inputs "old" is missing if something was added, "new" if it was removed, and
-- "job" made the new file. image_sha256 says that the image's name means another image than it did; null
-- in it is a digest that is not known, which differs from any that is.
--
-- package: name of the package
-- version: its version
-- image, -I: the image
-- image_sha256: the digest that the image's name means, if it is known
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
        j.image_sha256,
        j.script
    FROM package AS p
    CROSS JOIN LATERAL (
        SELECT
            j.uuid,
            j.state,
            j.started_at,
            j.finished_at,
            j.image_id,
            j.image_sha256,
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

wanted_image AS (
    SELECT
        coalesce(
\if :{?image_sha256}
            :'image_sha256'::bytea,
\endif
            NULL::bytea
        ) AS sha256
),

wanted_env AS (
    SELECT
        envvar_name(w.entry) AS name,
        envvar_value(w.entry) AS value
    FROM unnest(:'env'::text[]) AS w (entry)
    WHERE w.entry <> ''
),

wanted_input AS (
    SELECT
        substr(w.entry, strpos(w.entry, '  ') + 2) AS path,
        encode(decode(split_part(w.entry, '  ', 1), 'hex'), 'hex') AS sha256
    FROM unnest(:'inputs'::text[]) AS w (entry)
    WHERE w.entry <> ''
)

SELECT
    c.uuid AS job_uuid,
    c.state,
    c.finished_at,
    nullif(c.version, :'version'::text) AS version,
    nullif(c.image, :'image'::text) AS image,
    CASE
        WHEN (c.image_sha256 IS DISTINCT FROM wi.sha256)
            THEN json_build_object('old', encode(c.image_sha256, 'hex'), 'new', encode(wi.sha256, 'hex'))
    END AS image_sha256,
    e.differences AS env,
    f.differences AS inputs,
    nullif(c.script, :'script'::text) AS script
FROM candidate AS c
CROSS JOIN wanted_image AS wi
CROSS JOIN LATERAL (
    SELECT
        json_agg(
            json_strip_nulls(
                json_build_object(
                    'name', coalesce(o.name, w.name), 'old', o.value, 'new', envvar_text(w.value)
                )
            ) ORDER BY coalesce(o.name, w.name)
        ) AS differences
    FROM (
        SELECT
            v.name,
            v.value,
            v.value_sha256
        FROM jobenvs AS je
        JOIN envvar AS v ON v.id = je.envvar_id
        WHERE je.job_uuid = c.uuid
    ) AS o
    FULL JOIN wanted_env AS w ON o.name = w.name
    WHERE o.value_sha256 IS DISTINCT FROM envvar_sha256(w.value)
) AS e
CROSS JOIN LATERAL (
    SELECT
        json_agg(
            json_strip_nulls(
                json_build_object('path', d.path, 'old', d.old, 'new', d.new, 'job', made.job_uuid)
            ) ORDER BY d.path, d.place
        ) AS differences
    FROM (
        SELECT
            t.path,
            t.place,
            max(t.sha256) FILTER (WHERE t.is_old) AS old,
            max(t.sha256) FILTER (WHERE NOT t.is_old) AS new
        FROM (
            -- Equal files are left out, each counted once as in a fingerprint; of the rest, those of
            -- one path are told in pairs. An unknown content equals itself alone.
            SELECT
                r.path,
                r.sha256,
                bool_and(r.is_old) AS is_old,
                row_number() OVER (
                    PARTITION BY r.path, bool_and(r.is_old)
                    ORDER BY r.sha256, r.unknown
                ) AS place
            FROM (
                SELECT
                    a.path,
                    coalesce(encode(a.sha256, 'hex'), 'unknown') AS sha256,
                    CASE WHEN a.sha256 IS NULL THEN a.uuid END AS unknown,
                    TRUE AS is_old
                FROM job_input_artifacts AS ji
                JOIN artifact AS a ON a.uuid = ji.artifact_uuid
                WHERE ji.job_uuid = c.uuid
                UNION ALL
                SELECT
                    w.path,
                    w.sha256,
                    NULL::uuid AS unknown,
                    FALSE AS is_old
                FROM wanted_input AS w
            ) AS r
            GROUP BY r.path, r.sha256, r.unknown
            HAVING bool_and(r.is_old) = bool_or(r.is_old)
        ) AS t
        GROUP BY t.path, t.place
    ) AS d
    LEFT JOIN LATERAL (
        SELECT a.job_uuid
        FROM artifact AS a
        WHERE
            a.path_sha256 = text_sha256(d.path)
            AND a.sha256 = decode(d.new, 'hex')
            AND a.job_uuid IS NOT NULL
        ORDER BY a.uuid DESC
        LIMIT 1
    ) AS made ON TRUE
) AS f
ORDER BY
    (c.state <> 'success')::int + (c.version <> :'version'::text)::int + (c.image <> :'image'::text)::int
    + (c.image_sha256 IS DISTINCT FROM wi.sha256)::int + (c.script <> :'script'::text)::int
    + coalesce(json_array_length(e.differences), 0) + coalesce(json_array_length(f.differences), 0),
    c.started_at DESC,
    c.uuid DESC
\if :{?limit}
LIMIT :limit
\endif
;
