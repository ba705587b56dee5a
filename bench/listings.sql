-- Which values shall each listing be filtered by?
--
-- Of each filter the value that most rows have (common), one that fewest have (rare), one that
-- many have, but none of the newer half (old), and one that none has (unknown). Of submits, jobs and
-- digests, of which there are as many as rows, one in 64 is looked at.

WITH middle AS (
    SELECT t.started_at
    FROM job AS t
    ORDER BY t.started_at
    OFFSET (SELECT count(*) / 2 FROM job)
    LIMIT 1
),

middle_artifact AS (
    SELECT t.uuid
    FROM artifact AS t
    ORDER BY t.uuid
    OFFSET (SELECT count(*) / 2 FROM artifact)
    LIMIT 1
),

by_package AS (
    SELECT
        p.name,
        p.version,
        count(*) AS uses,
        max(j.started_at) AS last
    FROM job AS j
    JOIN package AS p ON p.id = j.package_id
    GROUP BY p.name, p.version
),

by_asked AS (
    SELECT
        p.name,
        p.version,
        count(*) AS uses,
        max(s.timestamp) AS last
    FROM submit AS s
    JOIN package AS p ON p.id = s.requested_package_id
    GROUP BY p.name, p.version
),

used (report, filter, value, uses, is_old) AS (
    SELECT
        'jobs' AS report,
        'of_submit' AS filter,
        j.submit_uuid::text AS value,
        count(*) AS uses,
        max(j.started_at) < (SELECT m.started_at FROM middle AS m) AS is_old
    FROM job AS j
    WHERE get_byte(uuid_send(j.submit_uuid), 15) < 4
    GROUP BY j.submit_uuid
    UNION ALL
    SELECT
        'jobs',
        'package',
        t.name,
        sum(t.uses),
        max(t.last) < (SELECT m.started_at FROM middle AS m)
    FROM by_package AS t
    GROUP BY t.name
    UNION ALL
    SELECT
        'jobs',
        'version',
        t.version,
        sum(t.uses),
        max(t.last) < (SELECT m.started_at FROM middle AS m)
    FROM by_package AS t
    GROUP BY t.version
    UNION ALL
    SELECT
        'jobs',
        'image',
        (SELECT i.name FROM image AS i WHERE i.id = j.image_id),
        count(*),
        max(j.started_at) < (SELECT m.started_at FROM middle AS m)
    FROM job AS j
    GROUP BY j.image_id
    UNION ALL
    SELECT
        'jobs',
        'endpoint',
        (SELECT e.name FROM endpoint AS e WHERE e.id = j.endpoint_id),
        count(*),
        max(j.started_at) < (SELECT m.started_at FROM middle AS m)
    FROM job AS j
    GROUP BY j.endpoint_id
    UNION ALL
    SELECT
        'jobs',
        'state',
        j.state,
        count(*),
        max(j.started_at) < (SELECT m.started_at FROM middle AS m)
    FROM job AS j
    GROUP BY j.state
    UNION ALL
    SELECT
        'jobs',
        'env',
        (SELECT concat_ws('=', v.name, v.value) FROM envvar AS v WHERE v.id = ee.envvar_id),
        sum(n.uses),
        max(n.last) < (SELECT m.started_at FROM middle AS m)
    FROM (
        SELECT
            j.environment_id,
            count(*) AS uses,
            max(j.started_at) AS last
        FROM job AS j
        GROUP BY j.environment_id
    ) AS n
    JOIN environment_envvar AS ee ON ee.environment_id = n.environment_id
    GROUP BY ee.envvar_id
    UNION ALL
    SELECT
        'submits',
        'for_pkg',
        t.name,
        sum(t.uses),
        max(t.last) < (SELECT m.started_at FROM middle AS m)
    FROM by_asked AS t
    GROUP BY t.name
    UNION ALL
    SELECT
        'submits',
        'for_version',
        t.version,
        sum(t.uses),
        max(t.last) < (SELECT m.started_at FROM middle AS m)
    FROM by_asked AS t
    GROUP BY t.version
    UNION ALL
    SELECT
        'submits',
        'with_pkg',
        n.name,
        count(*),
        max(s.timestamp) < (SELECT m.started_at FROM middle AS m)
    FROM submit AS s
    CROSS JOIN LATERAL (
        SELECT DISTINCT t.node ->> 'name' AS name
        FROM jsonb_array_elements(s.tree -> 'nodes') AS t (node)
    ) AS n
    GROUP BY n.name
    UNION ALL
    SELECT
        'submits',
        'image',
        (SELECT i.name FROM image AS i WHERE i.id = s.requested_image_id),
        count(*),
        max(s.timestamp) < (SELECT m.started_at FROM middle AS m)
    FROM submit AS s
    GROUP BY s.requested_image_id
    UNION ALL
    SELECT
        'submits',
        'commit',
        (SELECT g.hash FROM git_hash AS g WHERE g.id = s.repo_hash_id),
        count(*),
        max(s.timestamp) < (SELECT m.started_at FROM middle AS m)
    FROM submit AS s
    GROUP BY s.repo_hash_id
    UNION ALL
    SELECT
        'artifacts',
        'job',
        a.job_uuid::text,
        count(*),
        max(a.uuid::text) < (SELECT m.uuid::text FROM middle_artifact AS m)
    FROM artifact AS a
    WHERE get_byte(uuid_send(a.job_uuid), 15) < 4
    GROUP BY a.job_uuid
    UNION ALL
    SELECT
        'artifacts',
        'path',
        a.path,
        count(*),
        max(a.uuid::text) < (SELECT m.uuid::text FROM middle_artifact AS m)
    FROM artifact AS a
    GROUP BY a.path
    UNION ALL
    SELECT
        'artifacts',
        'sha256',
        a.sha256::text,
        count(*),
        max(a.uuid::text) < (SELECT m.uuid::text FROM middle_artifact AS m)
    FROM artifact AS a
    WHERE get_byte(a.sha256, 0) < 4
    GROUP BY a.sha256
    UNION ALL
    SELECT
        'packages',
        'name',
        t.name,
        count(*),
        FALSE
    FROM package AS t
    GROUP BY t.name
    UNION ALL
    SELECT
        'envvars',
        'name',
        t.name,
        count(*),
        FALSE
    FROM envvar AS t
    GROUP BY t.name
),

picked (report, filter, kind, value, uses) AS (
    (
        SELECT DISTINCT ON (u.report, u.filter)
            u.report,
            u.filter,
            'common' AS kind,
            u.value,
            u.uses
        FROM used AS u
        ORDER BY u.report, u.filter, u.uses DESC, u.value
    )
    UNION ALL
    (
        SELECT DISTINCT ON (u.report, u.filter)
            u.report,
            u.filter,
            'rare',
            u.value,
            u.uses
        FROM used AS u
        -- Of those with as few, one that is not at the end where the search begins.
        ORDER BY u.report, u.filter, u.uses, u.is_old DESC, u.value
    )
    UNION ALL
    (
        SELECT DISTINCT ON (u.report, u.filter)
            u.report,
            u.filter,
            'old',
            u.value,
            u.uses
        FROM used AS u
        WHERE u.is_old
        ORDER BY u.report, u.filter, u.uses DESC, u.value
    )
    UNION ALL
    SELECT DISTINCT
        u.report,
        u.filter,
        'unknown',
        CASE
            WHEN u.filter IN ('of_submit', 'job') THEN '00000000-0000-7000-8000-000000000000'
            WHEN u.filter = 'sha256' THEN '\x' || repeat('00', 32)
            WHEN u.filter = 'env' THEN 'NOT=THERE'
            ELSE 'not-there'
        END,
        NULL::numeric
    FROM used AS u
    WHERE u.filter <> 'state'
    UNION ALL
    SELECT
        r.report,
        f.filter,
        k.kind,
        (
            (SELECT max(j.started_at) FROM job AS j)
            - CASE WHEN k.kind = 'new' THEN interval '1 day' ELSE interval '364 days' END
        )::text,
        NULL::numeric
    FROM unnest(ARRAY['jobs', 'submits']) AS r (report)
    CROSS JOIN unnest(ARRAY['newer_than', 'older_than']) AS f (filter)
    CROSS JOIN unnest(ARRAY['new', 'old']) AS k (kind)
    UNION ALL
    SELECT
        'jobs',
        'before',
        'middle',
        (
            SELECT j.uuid::text
            FROM job AS j
            WHERE j.started_at = (SELECT m.started_at FROM middle AS m)
            ORDER BY j.uuid
            LIMIT 1
        ),
        NULL::numeric
    UNION ALL
    SELECT
        'submits',
        'before',
        'middle',
        (
            SELECT s.uuid::text
            FROM submit AS s
            WHERE s.timestamp < (SELECT m.started_at FROM middle AS m)
            ORDER BY s.timestamp DESC, s.uuid DESC
            LIMIT 1
        ),
        NULL::numeric
    UNION ALL
    SELECT
        'artifacts',
        'before',
        'middle',
        (SELECT m.uuid::text FROM middle_artifact AS m),
        NULL::numeric
    UNION ALL
    SELECT
        r.report,
        '',
        '',
        '',
        NULL::numeric
    FROM unnest(
        ARRAY['jobs', 'submits', 'artifacts', 'packages', 'images', 'endpoints', 'envvars']
    ) AS r (report)
)

SELECT
    p.report,
    p.filter,
    p.kind,
    p.value,
    p.uses
FROM picked AS p
ORDER BY
    array_position(
        ARRAY['jobs', 'submits', 'artifacts', 'packages', 'images', 'endpoints', 'envvars'], p.report
    ),
    p.filter,
    array_position(ARRAY['common', 'rare', 'old', 'unknown', 'new', 'middle'], p.kind);
