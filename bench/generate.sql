-- Fill an empty, migrated store with generated jobs, and what belongs to them.
--
-- Several statements: they run one after the other in one session, in psql as well:
--   butido-store psql -v jobs=1000000 -v until=2026-01-01 -f bench/generate.sql
-- The same parameters give the same rows. All that looks random is a hash of a row's number.
--
-- jobs: how many; 20 to a submit
-- until: the end of the year that they are spread over

CREATE TEMPORARY TABLE given (jobs bigint NOT NULL, submits bigint NOT NULL, since timestamptz NOT NULL);

INSERT INTO given (jobs, submits, since)
SELECT
    :'jobs'::bigint AS jobs,
    (:'jobs'::bigint + 19) / 20 AS submits,
    :'until'::timestamptz - interval '365 days' AS since;

-- Rows are made consistent, so that their foreign keys need no check where the role may say so.
SELECT set_config('session_replication_role', 'replica', FALSE)
FROM pg_roles
WHERE rolname = current_user AND rolsuper;

SELECT set_config('work_mem', '256MB', FALSE);

CREATE FUNCTION pg_temp.chance(n bigint, salt integer) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (hashint8extended(n, salt) & 4503599627370495)::double precision / 4503599627370496;

-- From 0 to below the limit, the low ones more often, the more so the higher the skew.
CREATE FUNCTION pg_temp.pick(n bigint, salt integer, below bigint, skew double precision) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN least(floor(below * power(pg_temp.chance(n, salt), skew))::bigint, below - 1);

CREATE FUNCTION pg_temp.uuid_at(at timestamptz, what text, n bigint) RETURNS uuid
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (
    lpad(to_hex(floor(extract(EPOCH FROM at) * 1000)::bigint), 12, '0')
    || '7' || substr(md5(what || n::text), 1, 3) || 'a' || substr(md5(what || n::text), 4, 15)
)::uuid;

CREATE FUNCTION pg_temp.version_of(name_no bigint, version_no bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
-- Half of the packages share the same few versions.
RETURN CASE
    WHEN name_no % 2 = 0 THEN '1.' || version_no::text
    ELSE (2 + name_no % 40)::text || '.' || (name_no % 17)::text || '.' || version_no::text
END;


-- Shared values ---------------------------------------------------------------------------------

-- Package number 3000, and the last image and endpoint, are those that a few old jobs have only.
CREATE TEMPORARY TABLE stock_package (
    name_no bigint, version_no bigint, id bigint, name text, version text,
    PRIMARY KEY (name_no, version_no)
);

INSERT INTO stock_package (name_no, version_no, id, name, version)
SELECT
    t.name_no,
    t.version_no,
    row_number() OVER (ORDER BY t.name_no, t.version_no) AS id,
    CASE WHEN t.name_no = 3000 THEN 'rare-package' ELSE 'package-' || lpad(t.name_no::text, 4, '0') END,
    CASE WHEN t.name_no = 3000 THEN '0.0.1-rare' ELSE pg_temp.version_of(t.name_no, t.version_no) END
FROM (
    SELECT
        n AS name_no,
        v AS version_no
    FROM generate_series(0::bigint, 3000) AS n
    CROSS JOIN generate_series(0::bigint, 4) AS v
    WHERE v <= CASE WHEN n = 3000 THEN 0 ELSE pg_temp.pick(n, 1, 5, 1) END
) AS t;

INSERT INTO package (id, name, version)
OVERRIDING SYSTEM VALUE
SELECT
    s.id,
    s.name,
    s.version
FROM stock_package AS s
ORDER BY s.id;

INSERT INTO image (id, name)
OVERRIDING SYSTEM VALUE
SELECT
    n + 1 AS id,
    CASE WHEN n = 40 THEN 'rare-image:1' ELSE 'registry.example.com/build/os-' || (n % 8) || ':' || n END AS name
FROM generate_series(0, 40) AS n;

INSERT INTO endpoint (id, name)
OVERRIDING SYSTEM VALUE
SELECT
    n + 1 AS id,
    CASE WHEN n = 24 THEN 'rare-endpoint' ELSE 'builder-' || lpad(n::text, 2, '0') END AS name
FROM generate_series(0, 24) AS n;

-- Number 0 is a release branch that stays; the others follow one another, ten submits each.
INSERT INTO git_hash (id, hash)
OVERRIDING SYSTEM VALUE
SELECT
    n + 1 AS id,
    substr(encode(sha256(convert_to('commit ' || n, 'UTF8')), 'hex'), 1, 40) AS hash
FROM generate_series(0, (SELECT g.submits / 10 + 2 FROM given AS g)) AS n;

-- A slot is a choice that each job makes once; what slot 9 has, five old jobs have only.
CREATE TEMPORARY TABLE stock_env (
    slot bigint, choice bigint, id bigint, name text, value text, PRIMARY KEY (slot, choice)
);

INSERT INTO stock_env (slot, choice, id, name, value)
SELECT
    t.slot,
    t.choice,
    row_number() OVER (ORDER BY t.slot, t.choice) AS id,
    t.name,
    t.value
FROM (
    SELECT 0 AS slot, 0 AS choice, 'LANG' AS name, 'C.UTF-8' AS value
    UNION ALL
    SELECT 1, n, 'MAKEFLAGS', '-j' || (2 ^ n)::bigint FROM generate_series(0, 3) AS n
    UNION ALL
    SELECT 2, n, 'CFLAGS', '-O2 -g -march=x86-64 -DVARIANT=' || n FROM generate_series(0, 19) AS n
    UNION ALL
    SELECT 3, n, 'TOOLCHAIN', 'gcc-' || (12 + n) FROM generate_series(0, 1) AS n
    UNION ALL
    SELECT 4, n, 'OPTION_' || n, 'enabled' FROM generate_series(0, 199) AS n
    UNION ALL
    SELECT 5, n, 'BUILD_TAG', 'week-' || n FROM generate_series(0, 52) AS n
    UNION ALL
    SELECT 9, 0, 'RARE', 'yes'
) AS t;

INSERT INTO envvar (id, name, value)
OVERRIDING SYSTEM VALUE
SELECT
    s.id,
    s.name,
    s.value
FROM stock_env AS s
ORDER BY s.id;

SELECT
    setval(pg_get_serial_sequence('package', 'id'), (SELECT max(id) FROM package)),
    setval(pg_get_serial_sequence('image', 'id'), (SELECT max(id) FROM image)),
    setval(pg_get_serial_sequence('endpoint', 'id'), (SELECT max(id) FROM endpoint)),
    setval(pg_get_serial_sequence('git_hash', 'id'), (SELECT max(id) FROM git_hash)),
    setval(pg_get_serial_sequence('envvar', 'id'), (SELECT max(id) FROM envvar));

ANALYZE given, stock_package, stock_env;


-- What each submit and each job is --------------------------------------------------------------

-- The year has 12 epochs. The first ten submits of each build the tools of the others, which use
-- them from 20 submits on, when those are done for certain.
CREATE TEMPORARY TABLE plan_submit AS
SELECT
    k,
    pg_temp.uuid_at(t.at, 'submit', k) AS uuid,
    t.at,
    CASE WHEN k = 5 THEN 41 ELSE 1 + pg_temp.pick(k, 11, 40, 2.5) END AS image_id,
    CASE
        WHEN k = 5 THEN g.submits / 10 + 3
        WHEN pg_temp.chance(k, 12) < 0.2 THEN 1
        ELSE 2 + k / 10
    END AS git_hash_id,
    k * 12 / g.submits AS epoch,
    k - ((k * 12 / g.submits) * g.submits + 11) / 12 < 10 AS makes_tools,
    CASE WHEN k >= 20 THEN (k - 20) * 12 / g.submits - 1 ELSE -1 END
    + CASE WHEN k >= 20 AND k - ((k * 12 / g.submits) * g.submits + 11) / 12 >= 20 THEN 1 ELSE 0 END
        AS tools_epoch
FROM given AS g
CROSS JOIN LATERAL generate_series(0::bigint, g.submits - 1) AS k
CROSS JOIN LATERAL (
    SELECT g.since + interval '364 days 23 hours' * (k::double precision / g.submits) AS at
) AS t;

ANALYZE plan_submit;

CREATE TEMPORARY TABLE plan_job AS
SELECT
    t.*,
    pg_temp.uuid_at(t.started_at - interval '30 s' * pg_temp.chance(t.n, 21), 'job', t.n) AS uuid,
    ARRAY[
        0,
        pg_temp.pick(t.name_no, 51, 4, 2),
        pg_temp.pick(t.name_no, 52, 20, 2),
        -- So one is in the older half of the jobs only, the other in the newer.
        CASE WHEN t.n >= t.jobs / 2 THEN 1 ELSE 0 END,
        pg_temp.pick(t.name_no, 53, 200, 4),
        t.week,
        CASE WHEN t.n BETWEEN 101 AND 105 THEN 0 ELSE -1 END
    ] AS environment_key,
    CASE
        WHEN t.state <> 'running'
            -- The same package takes about as long, and always ends before the submit's next job starts.
            THEN t.started_at + interval '1 s'
            * (3 + 60 * pg_temp.chance(t.name_no, 22) ^ 3 + 15 * pg_temp.chance(t.n, 23) ^ 4)
    END AS finished_at,
    -- Outputs that the job can have read: those of its submit's jobs before it.
    count(*) FILTER (WHERE t.state = 'success') OVER (
        PARTITION BY t.k ORDER BY t.i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS made_before
FROM (
    SELECT
        n,
        s.k,
        p.i,
        c.name_no,
        v.id AS package_id,
        v.name,
        v.version,
        s.image_id,
        CASE WHEN s.k = 5 THEN 25 ELSE 1 + pg_temp.pick(n, 24, 24, 2) END AS endpoint_id,
        CASE
            WHEN n >= g.jobs - 8 THEN 'running'
            WHEN pg_temp.chance(n, 25) < 0.001 THEN 'lost'
            WHEN pg_temp.chance(n, 25) < 0.091 THEN 'error'
            ELSE 'success'
        END AS state,
        s.at + interval '90 s' * p.i + interval '9 s' * pg_temp.chance(n, 26) AS started_at,
        s.epoch,
        s.makes_tools,
        s.tools_epoch,
        s.k * 52 / g.submits AS week,
        g.jobs
    FROM given AS g
    CROSS JOIN LATERAL generate_series(0::bigint, g.jobs - 1) AS n
    CROSS JOIN LATERAL (SELECT n % 20 AS i) AS p
    JOIN plan_submit AS s ON s.k = n / 20
    CROSS JOIN LATERAL (
        -- No package is twice in a submit: each position picks from names of its own. What the
        -- first two positions pick is in nearly every submit.
        SELECT
            CASE
                WHEN s.k = 5 AND p.i = 7 THEN 3000
                WHEN p.i < 2 THEN p.i + 20 * pg_temp.pick(n, 27, 150, 40 - 28 * p.i)
                ELSE 2 + (p.i - 2 + s.k * 7) % 18 + 20 * pg_temp.pick(n, 27, 150, 4)
            END AS name_no
        OFFSET 0  -- evaluated once, not wherever it is used
    ) AS c
    JOIN stock_package AS v ON v.name_no = c.name_no AND v.version_no = CASE
        WHEN c.name_no = 3000 THEN 0
        -- Newer versions in the course of the year; a tenth of the jobs build any.
        ELSE least(
            floor(
                (pg_temp.pick(c.name_no, 1, 5, 1) + 1)
                * CASE
                    WHEN pg_temp.chance(n, 28) < 0.1 THEN pg_temp.chance(n, 29)
                    ELSE s.k::double precision / g.submits
                END
            )::bigint, pg_temp.pick(c.name_no, 1, 5, 1)
        )
    END
) AS t;

CREATE UNIQUE INDEX ON plan_job (n);

ANALYZE plan_job;


-- A package's own environment, with what the submit adds: as many as there are packages and weeks.
CREATE TEMPORARY TABLE plan_env AS
SELECT
    t.*,
    dense_rank() OVER (ORDER BY t.environment) AS environment_id,
    environment_sha256(t.environment) AS sha256
FROM (
    SELECT
        p.key,
        array_agg(e.id) AS envs,
        jsonb_object_agg(e.name, e.value) AS environment
    FROM (
        SELECT DISTINCT environment_key AS key FROM plan_job
        UNION ALL
        SELECT ARRAY[-1, -1, -1, -1, -1, n, -1] FROM generate_series(0, 52) AS n
    ) AS p
    CROSS JOIN LATERAL unnest(ARRAY[0, 1, 2, 3, 4, 5, 9], p.key) AS c (slot, choice)
    JOIN stock_env AS e ON e.slot = c.slot AND e.choice = c.choice
    GROUP BY p.key
) AS t;

CREATE UNIQUE INDEX ON plan_env (key);

INSERT INTO environment (id, sha256)
OVERRIDING SYSTEM VALUE
SELECT
    p.environment_id,
    p.sha256
FROM plan_env AS p
ORDER BY p.environment_id;

INSERT INTO environment_envvar (environment_id, envvar_id)
SELECT
    p.environment_id,
    e.id
FROM plan_env AS p
CROSS JOIN LATERAL unnest(p.envs) AS e (id)
ORDER BY p.environment_id, e.id;

SELECT setval(pg_get_serial_sequence('environment', 'id'), (SELECT max(id) FROM environment));

ANALYZE plan_env;


-- Submits ---------------------------------------------------------------------------------------

-- The last job of a submit builds what was asked for, which is node 0.
INSERT INTO submit (
    uuid, timestamp, requested_image_id, requested_package_id, repo_hash_id, environment_id, tree, buildplan
)
SELECT
    s.uuid,
    s.at,
    s.image_id,
    d.requested_package_id,
    s.git_hash_id,
    n.environment_id,
    d.tree,
    d.buildplan
FROM plan_submit AS s
JOIN (
    SELECT
        j.k,
        (array_agg(j.package_id ORDER BY j.i DESC))[1] AS requested_package_id,
        jsonb_build_object('root', 0, 'nodes', jsonb_agg(
            jsonb_build_object(
                'name', j.name, 'version', j.version, 'dependencies', CASE
                    WHEN j.i = 0 THEN '[]'::jsonb
                    WHEN j.i = 1 THEN jsonb_build_array(j.last - j.i + 1)
                    ELSE jsonb_build_array(j.last - j.i + 1, j.last - pg_temp.pick(j.n, 31, j.i - 1, 1))
                END
            ) ORDER BY j.i DESC
        )) AS tree,
        jsonb_build_object('jobs', jsonb_agg(
            jsonb_build_object(
                'uuid', j.uuid, 'package', j.name, 'version', j.version, 'needs', CASE
                    WHEN j.i = 0 THEN '[]'::jsonb ELSE jsonb_build_array(j.previous)
                END
            ) ORDER BY j.i
        )) AS buildplan
    FROM (
        SELECT
            p.k,
            p.n,
            p.i,
            p.uuid,
            p.package_id,
            p.name,
            p.version,
            lag(p.uuid) OVER w AS previous,
            max(p.i) OVER (PARTITION BY p.k) AS last
        FROM plan_job AS p
        WINDOW w AS (PARTITION BY p.k ORDER BY p.i)
    ) AS j
    GROUP BY j.k
) AS d ON d.k = s.k
JOIN plan_env AS n ON n.key = ARRAY[-1, -1, -1, -1, -1, s.k * 52 / (SELECT g.submits FROM given AS g), -1]
ORDER BY s.k;


-- Jobs ------------------------------------------------------------------------------------------

INSERT INTO job (
    uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at, finished_at, heartbeat_at,
    fingerprint, container_hash, script, log, log_pieces, log_size, failure, failure_rule
)
SELECT
    j.uuid,
    j.submit_uuid,
    j.endpoint_id,
    j.package_id,
    j.image_id,
    j.environment_id,
    j.state,
    j.started_at,
    j.finished_at,
    coalesce(j.finished_at, j.started_at + interval '20 s') AS heartbeat_at,
    -- Three in ten are builds that have been done before.
    sha256(convert_to(CASE
        WHEN pg_temp.chance(j.n, 41) < 0.3 THEN concat_ws(' ', j.package_id, j.image_id, j.epoch)
        ELSE j.n::text
    END, 'UTF8')) AS fingerprint,
    md5('container' || j.n) AS container_hash,
    format(
        E'#!/bin/sh\nset -eux\ntar xf /inputs/%1$s-%2$s.tar.gz\ncd %1$s-%2$s\n'
        './configure --prefix=/usr --disable-static\nmake -j"$(nproc)"\nmake check\n'
        'make DESTDIR=/outputs/root install\ntar czf /outputs/%1$s-%2$s.tar.gz -C /outputs/root .\n',
        j.name, j.version
    ) AS script,
    l.log,
    CASE
        WHEN j.state <> 'running' THEN ARRAY[1, 1, 1, char_length(l.log) - 3]
    END AS log_pieces,
    octet_length(l.log) AS log_size,
    CASE WHEN j.state = 'error' THEN failure_lines(l.log) END AS failure,
    CASE WHEN j.state = 'error' THEN failure_rule() END AS failure_rule
FROM (
    -- Sorted before the script and the log are written: ten times less to sort.
    SELECT
        p.n,
        p.uuid,
        p.package_id,
        p.name,
        p.version,
        p.endpoint_id,
        p.image_id,
        p.state,
        p.started_at,
        p.finished_at,
        p.epoch,
        s.uuid AS submit_uuid,
        n.environment_id
    FROM plan_job AS p
    JOIN plan_submit AS s ON s.k = p.k
    JOIN plan_env AS n ON n.key = p.environment_key
    ORDER BY p.uuid
    OFFSET 0
) AS j
-- OFFSET: written once, used three times.
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN j.state <> 'running'
                THEN format(
                    E'#BUTIDO:PHASE:configure\nchecking for gcc... /usr/bin/gcc\n#BUTIDO:PROGRESS:20\n'
                    '#BUTIDO:PHASE:build\nmake[1]: Entering directory /tmp/build-%3$s/%1$s-%2$s\n'
                    '  CC       src/main-%4$s.o\n  CC       src/%1$s.o\n  LD       %1$s\n',
                    j.name, j.version, j.n, j.n % 97
                ) || CASE j.state
                    WHEN 'success' THEN E'#BUTIDO:PROGRESS:100\nall 120 tests passed\n#BUTIDO:STATE:OK\n'
                    WHEN 'error'
                        THEN format(
                            (ARRAY[
                                E'/tmp/build-%s/src/%s.c:%s:12: fatal error: config.h: No such file or directory\n',
                                E'/usr/bin/ld: /tmp/cc%s.o: undefined reference to %s_init at line %s\n',
                                E'FAILED: %s tests of %s, %s passed\n',
                                E'make: *** [Makefile:%s: %s] Error %s\n',
                                E'process %s killed: out of memory building %s after %s MB\n',
                                E'curl %s: error: %s: timed out after %s ms\n',
                                E'configure %s: error: no acceptable %s compiler, exit %s\n',
                                E'run %s: disk full error while writing %s at offset %s\n'
                            ])[1 + pg_temp.pick(j.n, 42, 8, 2)],
                            j.n, j.name, 10 + pg_temp.pick(j.n, 43, 900, 1)
                        ) || E'#BUTIDO:STATE:ERR:build failed\n'
                    ELSE ''
                END
        END AS log
    OFFSET 0
) AS l;

INSERT INTO job_log_chunk (job_uuid, seq, chunk)
SELECT
    j.uuid,
    seq,
    E'#BUTIDO:PHASE:build\n#BUTIDO:PROGRESS:' || 10 * seq || E'\n' AS chunk
FROM plan_job AS j
CROSS JOIN generate_series(0, 3) AS seq
WHERE j.state = 'running'
ORDER BY j.uuid, seq;


-- Files -----------------------------------------------------------------------------------------

CREATE TEMPORARY TABLE plan_source AS
SELECT
    j.package_id,
    pg_temp.uuid_at(min(j.started_at) - interval '1 hour', 'source', j.package_id) AS uuid,
    'sources/' || j.name || '-' || j.version || '.tar.xz' AS path
FROM plan_job AS j
GROUP BY j.package_id, j.name, j.version;

-- Four in ten have the content that the package's builds of that epoch have in common.
CREATE TEMPORARY TABLE plan_output AS
SELECT
    j.n,
    j.k,
    j.epoch,
    j.makes_tools,
    j.uuid AS job_uuid,
    o.place,
    pg_temp.uuid_at(j.finished_at, 'output' || o.place, j.n) AS uuid,
    j.name || '-' || j.version || CASE o.place WHEN 1 THEN '.tar.gz' ELSE '-doc.tar.gz' END AS path,
    sha256(convert_to(
        o.place || CASE
            WHEN pg_temp.chance(j.n, 61) < 0.4 THEN concat_ws(' ', 'common', j.package_id, j.epoch)
            ELSE j.n::text
        END, 'UTF8'
    )) AS sha256,
    1000 + pg_temp.pick(j.n, 62, 50000000, 5) AS size,
    j.made_before + 1 AS rank
FROM plan_job AS j
CROSS JOIN LATERAL (
    SELECT 1 AS place
    UNION ALL
    SELECT 2 WHERE pg_temp.chance(j.n, 63) < 0.4
) AS o
WHERE j.state = 'success';

INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
SELECT
    t.uuid,
    t.job_uuid,
    t.path,
    t.sha256,
    t.size
FROM (
    SELECT
        s.uuid,
        NULL::uuid AS job_uuid,
        s.path,
        sha256(convert_to(s.path, 'UTF8')) AS sha256,
        1000 + pg_temp.pick(s.package_id, 64, 90000000, 5) AS size
    FROM plan_source AS s
    UNION ALL
    SELECT
        o.uuid,
        o.job_uuid,
        o.path,
        o.sha256,
        o.size
    FROM plan_output AS o
) AS t
ORDER BY t.uuid;

CREATE TEMPORARY TABLE plan_tool AS
SELECT
    o.epoch,
    row_number() OVER (PARTITION BY o.epoch ORDER BY o.n) - 1 AS place,
    o.uuid
FROM plan_output AS o
WHERE o.makes_tools AND o.place = 1;

CREATE TEMPORARY TABLE plan_tools AS
SELECT
    t.epoch,
    count(*) AS tools
FROM plan_tool AS t
GROUP BY t.epoch;

-- The two widest have served: what is still asked of them takes a third of their disk.
CREATE TEMPORARY TABLE plan_reader AS
SELECT
    j.n,
    j.k,
    j.uuid,
    j.package_id,
    j.made_before,
    j.tools_epoch
FROM plan_job AS j;

CREATE TEMPORARY TABLE plan_made AS
SELECT
    o.n,
    o.k,
    o.place,
    o.rank,
    o.uuid
FROM plan_output AS o;

DROP TABLE plan_job, plan_output, plan_env;

ANALYZE plan_reader, plan_made, plan_tool, plan_tools, plan_source;

-- Two outputs of jobs before it in its submit, or tools, and a source: no job reads what comes later.
INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
SELECT
    t.job_uuid,
    t.artifact_uuid
FROM (
    SELECT
        j.uuid AS job_uuid,
        s.uuid AS artifact_uuid
    FROM plan_reader AS j
    JOIN plan_source AS s ON s.package_id = j.package_id
    UNION ALL
    SELECT
        j.uuid,
        o.uuid
    FROM plan_reader AS j
    JOIN plan_made AS o
        ON o.k = j.k AND o.place = 1 AND o.rank = j.made_before - pg_temp.pick(j.n, 71, j.made_before, 2)
    WHERE j.made_before > 0
    UNION ALL
    -- A submit's first job has nothing of its own submit to read, so it reads two tools.
    SELECT
        c.uuid,
        t.uuid
    FROM (
        SELECT
            j.uuid,
            e.epoch,
            (pg_temp.pick(j.n, 72, e.tools, 3) + nth) % e.tools AS place
        FROM plan_reader AS j
        JOIN plan_tools AS e ON e.epoch = j.tools_epoch
        CROSS JOIN LATERAL generate_series(0, CASE WHEN j.made_before = 0 AND e.tools > 1 THEN 1 ELSE 0 END) AS nth
    ) AS c
    JOIN plan_tool AS t ON t.epoch = c.epoch AND t.place = c.place
) AS t
ORDER BY t.job_uuid, t.artifact_uuid;


-- Reuse: one submit in ten takes what the one before it built ----------------------------------

INSERT INTO reuse (submit_uuid, job_uuid, package_id, timestamp)
SELECT
    s.uuid AS submit_uuid,
    j.uuid AS job_uuid,
    j.package_id,
    s.at AS timestamp
FROM plan_submit AS s
JOIN plan_submit AS e ON e.k = s.k - 1
JOIN job AS j ON j.submit_uuid = e.uuid AND j.state = 'success'
WHERE s.k % 10 = 3
ORDER BY s.k, j.uuid;


-- Releases --------------------------------------------------------------------------------------

INSERT INTO release_store (id, name)
OVERRIDING SYSTEM VALUE
SELECT
    1 AS id,
    'stable' AS name;

SELECT setval(pg_get_serial_sequence('release_store', 'id'), 1);

INSERT INTO release (uuid, artifact_uuid, release_store_id, path_sha256, timestamp, actor)
SELECT
    pg_temp.uuid_at(s.at + interval '1 hour', 'release', s.k) AS uuid,
    o.uuid AS artifact_uuid,
    1 AS release_store_id,
    a.path_sha256,
    s.at + interval '1 hour' AS timestamp,
    'generate' AS actor
FROM plan_submit AS s
JOIN plan_made AS o ON o.k = s.k AND o.n = s.k * 20 + 19
JOIN artifact AS a ON a.uuid = o.uuid
WHERE s.k % 500 = 7
ORDER BY s.k, o.uuid;

INSERT INTO release_withdrawal (release_uuid, artifact_uuid, timestamp, actor, reason)
SELECT
    t.uuid AS release_uuid,
    t.artifact_uuid,
    t.timestamp + interval '1 day' AS timestamp,
    'generate' AS actor,
    'does not start' AS reason
FROM (
    SELECT
        r.uuid,
        r.artifact_uuid,
        r.timestamp,
        row_number() OVER (ORDER BY r.timestamp, r.uuid, r.artifact_uuid) AS place
    FROM release AS r
) AS t
WHERE t.place % 10 = 0;

DROP TABLE given, stock_package, stock_env, plan_submit, plan_reader, plan_made, plan_source, plan_tool, plan_tools;

RESET work_mem;

SELECT set_config('session_replication_role', 'origin', FALSE)
FROM pg_roles
WHERE rolname = current_user AND rolsuper;

-- The pages that reads would otherwise mark, and the statistics that plans are made from.
VACUUM (ANALYZE)
envvar, git_hash, package, image, endpoint, environment, environment_envvar, submit, job, job_log_chunk, artifact,
job_input_artifacts, reuse, release_store, release, release_withdrawal;
