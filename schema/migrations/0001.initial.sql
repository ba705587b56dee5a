-- Create the whole model: tables with keys, checks and indexes, functions, and views for people.
--
-- Phase:     pre (there is nothing before it)
-- Locks:     none (it only creates)
-- Duration:  instant
-- Rollback:  loses every record (the rollback drops the tables)

SET LOCAL lock_timeout = '150ms';

-- Functions that read no table; keys, checks and indexes are built on them ---------------------

CREATE FUNCTION text_sha256(value text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
-- convert_to() is only STABLE, which a generated column refuses. decode() of the text with its
-- backslashes doubled gives the same bytes, and is IMMUTABLE.
RETURN sha256(decode(replace(value, '\', '\\'), 'escape'));

COMMENT ON FUNCTION text_sha256(text) IS
'SHA-256 of a text''s UTF-8 bytes: the key of texts that are too long for a B-tree';

CREATE FUNCTION netstring(value text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN octet_length(value)::text || ':' || value || ',';

COMMENT ON FUNCTION netstring(text) IS
'A text with its length in bytes, as "5:hello,": however many are joined, each can be told apart';

CREATE FUNCTION environment_sha256(environment jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
-- A jsonb has its names in one order, each once. Without a subquery the planner inlines the call.
RETURN text_sha256(environment::text);

COMMENT ON FUNCTION environment_sha256(jsonb) IS
'SHA-256 over a whole environment, {"name": "value"}, as jsonb writes it; '
'of a secret the value is {"hmac_sha256": "hexadecimal"}';

CREATE FUNCTION envvar_name(variable text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN variable ~ '^[^=]+:[0-9a-f]{64}$' THEN left(variable, -65)
    -- Without "=" an error, which split_part() would not be.
    ELSE substr(variable, 1, strpos(variable, '=') - 1)
END;

COMMENT ON FUNCTION envvar_name(text) IS
'The name of a variable that is asked for: as NAME=VALUE, or as NAME:HMAC where its value is a secret, '
'in 64 lower-case hexadecimal digits';

CREATE FUNCTION envvar_value(variable text) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE
-- STABLE, as to_jsonb() is.
RETURN CASE
    WHEN variable ~ '^[^=]+:[0-9a-f]{64}$' THEN jsonb_build_object('hmac_sha256', right(variable, 64))
    ELSE to_jsonb(substr(variable, strpos(variable, '=') + 1))
END;

COMMENT ON FUNCTION envvar_value(text) IS
'The value of a variable that is asked for as envvar_name() says, as environment_sha256() takes it';

CREATE FUNCTION envvar_text(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' WHEN 'object' THEN '<redacted>' END;

COMMENT ON FUNCTION envvar_text(jsonb) IS
'What is shown of a value in an environment, as environment_sha256() takes it';

CREATE FUNCTION envvar_sha256(value jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE jsonb_typeof(value)
    WHEN 'string' THEN text_sha256(value #>> '{}')
    WHEN 'object' THEN decode(value ->> 'hmac_sha256', 'hex')
END;

COMMENT ON FUNCTION envvar_sha256(jsonb) IS
'envvar.value_sha256 of a value in an environment, as environment_sha256() takes it; NULL for what is none';

CREATE FUNCTION job_fingerprint(
    package_name text,
    package_version text,
    image_name text,
    image_sha256 bytea,
    script text,
    environment_sha256 bytea,
    inputs text[]
) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Not STRICT, which would keep the planner from inlining the call.
RETURN CASE
    WHEN array_position(inputs, NULL) IS NULL
        THEN text_sha256(
            netstring(package_name)
            || netstring(package_version)
            || netstring(image_name)
            || netstring(coalesce(encode(image_sha256, 'hex'), ''))
            || netstring(script)
            || netstring(encode(environment_sha256, 'hex'))
            -- A jsonb object is a set in one order, without a subquery that sorts.
            || netstring(jsonb_object(inputs, inputs)::text)
        )
END;

COMMENT ON FUNCTION job_fingerprint(text, text, text, bytea, text, bytea, text[]) IS
'SHA-256 over all that decides what a job builds. Inputs are what sha256sum() gives, in any order; '
'equal ones count once. The image''s digest counts where it is known. NULL if anything else is NULL';

CREATE FUNCTION sha256sum(sha256 bytea, path text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN encode(sha256, 'hex') || '  ' || path;

COMMENT ON FUNCTION sha256sum(bytea, text) IS
'A file as the program of this name prints it, the path never escaped: '
'64 lower-case hexadecimal digits, two spaces, the path';

CREATE FUNCTION rfc3339(at timestamptz) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

COMMENT ON FUNCTION rfc3339(timestamptz) IS
'A time as text, in UTC and with microseconds, whatever the session''s TimeZone';

CREATE FUNCTION tree_is_valid(tree jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(
    jsonb_typeof(tree -> 'nodes') = 'array'
    -- A filter in a lax path unwraps arrays, so that [[node]] would pass for [node]: strict paths
    -- check the elements.
    AND NOT jsonb_path_exists(tree, 'strict $.nodes[*] ? (@.type() != "object")', silent => TRUE)
    AND jsonb_path_exists(
        tree,
        '$ ? (@.root.type() == "number" && @.root.floor() == @.root
              && @.root >= 0 && @.root < @.nodes.size())'
    )
    AND NOT jsonb_path_exists(
        tree,
        '$.nodes[*] ? (!(@.type() == "object" && @.name.type() == "string"
                         && @.version.type() == "string" && @.dependencies.type() == "array"))'
    )
    -- All dependencies at once, as one text: with a filter, which takes each by itself, a tree of
    -- 64,000 nodes with 5 each took 2.6 s, so: 1.3.
    AND jsonb_path_query_array(tree, '$.nodes[*].dependencies[*]')::text ~ '^\[([0-9]+(, )?)*\]$'
    AND NOT jsonb_path_exists(tree, '$ ? (@.nodes[*].dependencies[*] >= $.nodes.size())'),
    FALSE
);

COMMENT ON FUNCTION tree_is_valid(jsonb) IS
'Whether a document is {"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}, '
'more keys allowed';

CREATE FUNCTION tree_packages(tree jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000
-- COST: a tree has hundreds of nodes; at the usual cost, unfolding every tree would look cheaper to
-- the planner than the index. left(): GIN refuses long entries; no package's name is longer. As JSON, so
-- that a name with a blank in it is no name with a version.
RETURN ARRAY(
    SELECT p.entry
    FROM jsonb_array_elements(tree -> 'nodes') AS n (node)
    CROSS JOIN LATERAL (
        SELECT left((n.node -> 'name')::text, 300) AS entry
        UNION ALL
        SELECT left((n.node -> 'name')::text, 300) || ' ' || left((n.node -> 'version')::text, 300)
    ) AS p
);

COMMENT ON FUNCTION tree_packages(jsonb) IS
'The packages of a tree, each as its name and as name and version, in quotes as JSON has them: '
'"zlib" and "zlib" "1.3"; for the GIN index on submit';

CREATE FUNCTION buildplan_is_valid(buildplan jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(
    jsonb_typeof(buildplan -> 'jobs') = 'array'
    AND NOT jsonb_path_exists(buildplan, 'strict $.jobs[*] ? (@.type() != "object")', silent => TRUE)
    AND NOT jsonb_path_exists(
        buildplan,
        '$.jobs[*] ? (!(@.type() == "object" && @.package.type() == "string"
                        && @.version.type() == "string" && @.needs.type() == "array"
                        && @.uuid.type() == "string"))'
    )
    -- All uuids at once: each search of a text begins anew. A plan of 64,000 jobs took 3.1 s, so: 2.0.
    AND jsonb_path_query_array(buildplan, '$.jobs[*].uuid')::text
    ~ '^\[("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"(, )?)*\]$'
    AND NOT jsonb_path_exists(
        buildplan, 'strict $.jobs[*].needs[*] ? (@.type() != "string")', silent => TRUE
    ),
    FALSE
);

COMMENT ON FUNCTION buildplan_is_valid(jsonb) IS
'Whether a document is {"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}, '
'more keys allowed';

CREATE FUNCTION failure_lines(log text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
-- Any setting keeps the planner from inlining the function, all of which it would plan for each job that ends.
SET jit = off
-- First each line as a terminal would show it at last, then the choice, then what differs from run to
-- run: temporary paths, addresses and numbers, white space. COLLATE "C": whatever the database's locale.
RETURN (
    SELECT
        string_agg(
            left(
                regexp_replace(
                    regexp_replace(
                        regexp_replace(l.line, '/(tmp|var/tmp)/[^\s:''")\]]*', '/tmp/#', 'g'),
                        '\m0x[0-9a-f]+\M|\m[0-9a-f]{7,}\M|[0-9]+', '#', 'gi'
                    ),
                    '\s+', ' ', 'g'
                ),
                300
            ), E'\n'
            ORDER BY l.place
        )
    FROM (
        SELECT
            m.line,
            m.place
        FROM (
            SELECT
                t.line,
                t.place,
                rank() OVER (
                    ORDER BY
                        -- What is before the first line break is empty, or a part of a line.
                        t.place = 1,
                        -- Not with \m and \M: 3.1 ms for 20,000 characters, so: 2.2.
                        t.line ~* '(^|[^a-z0-9_])(error|err|fatal|fail|fails|failed|failure|exception|panic|undefined|killed)($|[^a-z0-9_])'
                        OR t.line ~ '[A-Za-z](Error|Exception)($|[^A-Za-z0-9_])' DESC
                ) AS kind
            FROM (
                SELECT
                    -- What came before a CR was overwritten.
                    rtrim(split_part(rtrim(s.line, E'\r'), E'\r', -1), E' \t\f\x0b') AS line,
                    s.place
                FROM string_to_table(
                    regexp_replace(
                        right(E'\n' || log, 20001) COLLATE "C",
                        -- CSI, as of colours; OSC, as of links and titles, and others that end as it does;
                        -- other escape sequences; other control characters.
                        '(\e\[|\u009b)[0-?]*[ -/]*[@-~]?|\e[\]PX^_][^\a\e\n]*(\a|\e\\(x5c)?)?|\e[ -/]*[0-~]?|[\u0001-\u0008\u000e-\u001f\u007f]',
                        '', 'g'
                    ), E'\n'
                ) WITH ORDINALITY AS s (line, place)
                -- OFFSET keeps the planner from computing the line at each of its uses.
                OFFSET 0
            ) AS t
            WHERE t.line <> ''
        ) AS m
        -- The lines that tell of an error; all of them where none does.
        WHERE m.kind = 1
        ORDER BY m.place DESC
        LIMIT 3
    ) AS l
);

COMMENT ON FUNCTION failure_lines(text) IS
'The last 3 lines that tell of an error, or else the last 3, among the last 20,000 characters of a log, '
'each as a terminal would show it; without the numbers, addresses and temporary paths that differ from '
'run to run';

CREATE FUNCTION failure_rule() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1;

COMMENT ON FUNCTION failure_rule() IS
'The version of failure_lines(), raised when it gives other lines than before';


-- What values of a kind have to be ---------------------------------------------------------------

-- Domains, not CHECKs of tables: the server parses each CHECK of a table anew in every statement, and those of
-- job and artifact took a sixth of its time to record a job. A domain's are parsed once a session.
CREATE DOMAIN job_state AS text COLLATE "C"
CONSTRAINT job_state_check CHECK (value IN ('running', 'success', 'error', 'lost'));

COMMENT ON DOMAIN job_state IS 'Where a job stands';

CREATE DOMAIN moment AS timestamptz
CONSTRAINT moment_check CHECK (value >= to_timestamp(0) AND value < to_timestamp(253370764800));

COMMENT ON DOMAIN moment IS 'A time between 1970 and 9998, which every time zone can show';

CREATE DOMAIN digest AS bytea
CONSTRAINT digest_check CHECK (octet_length(value) = 32);

COMMENT ON DOMAIN digest IS 'A SHA-256, 32 bytes';

CREATE DOMAIN short_text AS text COLLATE "C"
CONSTRAINT short_text_check CHECK (char_length(value) BETWEEN 1 AND 255);

COMMENT ON DOMAIN short_text IS 'A text of 1 to 255 characters';

CREATE DOMAIN nonempty_text AS text COLLATE "C"
CONSTRAINT nonempty_text_check CHECK (value <> '');

COMMENT ON DOMAIN nonempty_text IS 'A text of any length but 0';

CREATE DOMAIN relative_path AS text COLLATE "C"
CONSTRAINT relative_path_check CHECK (value <> '' AND value !~ '^/|(^|/)\.\.(/|$)');

COMMENT ON DOMAIN relative_path IS 'A path that does not leave the directory that it is relative to';

CREATE DOMAIN nonnegative AS bigint
CONSTRAINT nonnegative_check CHECK (value >= 0);

COMMENT ON DOMAIN nonnegative IS 'A size, a number or a place';

-- A number that double precision lacks would fail every report on them.
CREATE DOMAIN measurements AS jsonb
CONSTRAINT measurements_check CHECK (
    jsonb_typeof(value) = 'object'
    AND NOT jsonb_path_exists(
        value, 'strict $.* ? (@.type() != "number" || (@.double() == 0) is unknown)', silent => TRUE
    )
);

COMMENT ON DOMAIN measurements IS 'What was measured, {"name": number}';


-- Shared values, each stored once --------------------------------------------------------------

CREATE TABLE envvar (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    value text NOT NULL,
    value_hmac digest,
    value_sha256 bytea NOT NULL GENERATED ALWAYS AS (coalesce(value_hmac, text_sha256(value))) STORED,
    CONSTRAINT envvar_pkey PRIMARY KEY (id),
    CONSTRAINT envvar_name_value_sha256_key UNIQUE (name, value_sha256),
    CONSTRAINT envvar_name_check
    CHECK (position('=' IN name) = 0 AND char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT envvar_check CHECK (value_hmac IS NULL OR value = '<redacted>')
);

COMMENT ON TABLE envvar IS 'Environment variables, each pair of name and value once';
COMMENT ON COLUMN envvar.id IS 'Key within this database';
COMMENT ON COLUMN envvar.name IS 'Name, without "="';
COMMENT ON COLUMN envvar.value IS 'Value, of any length; <redacted> for a secret';
COMMENT ON COLUMN envvar.value_hmac IS
'Of a secret the HMAC-SHA256 of NAME=VALUE, with a key that only builders have; NULL for any other variable';
COMMENT ON COLUMN envvar.value_sha256 IS
'SHA-256 of the value, which may be too long for an index; of a secret its HMAC';

CREATE TABLE environment (
    id bigint GENERATED ALWAYS AS IDENTITY,
    sha256 digest NOT NULL,
    CONSTRAINT environment_pkey PRIMARY KEY (id),
    CONSTRAINT environment_sha256_key UNIQUE (sha256)
);

COMMENT ON TABLE environment IS
'Whole environments, each stored once, however many jobs and submits have it; the empty one too';
COMMENT ON COLUMN environment.id IS 'Key within this database';
COMMENT ON COLUMN environment.sha256 IS 'environment_sha256() of its variables';

CREATE TABLE environment_envvar (
    environment_id bigint NOT NULL,
    envvar_id bigint NOT NULL,
    CONSTRAINT environment_envvar_pkey PRIMARY KEY (environment_id, envvar_id),
    CONSTRAINT environment_envvar_environment_id_fkey
    FOREIGN KEY (environment_id) REFERENCES environment (id),
    CONSTRAINT environment_envvar_envvar_id_fkey FOREIGN KEY (envvar_id) REFERENCES envvar (id)
);

CREATE INDEX environment_envvar_envvar_id_environment_id_idx
ON environment_envvar (envvar_id, environment_id);

COMMENT ON TABLE environment_envvar IS 'The variables of each environment';
COMMENT ON COLUMN environment_envvar.environment_id IS 'The environment';
COMMENT ON COLUMN environment_envvar.envvar_id IS 'A variable of this environment';

CREATE TABLE git_hash (
    id bigint GENERATED ALWAYS AS IDENTITY,
    hash text COLLATE "C" NOT NULL,
    CONSTRAINT git_hash_pkey PRIMARY KEY (id),
    CONSTRAINT git_hash_hash_key UNIQUE (hash),
    CONSTRAINT git_hash_hash_check CHECK (hash ~ '^([0-9a-f]{40}|[0-9a-f]{64})$')
);

COMMENT ON TABLE git_hash IS 'Commits of the package repository that submits were made at';
COMMENT ON COLUMN git_hash.id IS 'Key within this database';
COMMENT ON COLUMN git_hash.hash IS 'Full object name of the commit, SHA-1 or SHA-256, in lower case';

CREATE TABLE package (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    CONSTRAINT package_pkey PRIMARY KEY (id),
    CONSTRAINT package_name_version_key UNIQUE (name, version),
    CONSTRAINT package_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT package_version_check CHECK (char_length(version) BETWEEN 1 AND 255)
);

CREATE INDEX package_version_idx ON package (version);

COMMENT ON TABLE package IS
'Packages. All else about one is in the package repository, at the submit''s commit';
COMMENT ON COLUMN package.id IS 'Key within this database';
COMMENT ON COLUMN package.name IS 'Name of the package';
COMMENT ON COLUMN package.version IS 'Version of the package';

CREATE TABLE image (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    CONSTRAINT image_pkey PRIMARY KEY (id),
    CONSTRAINT image_name_key UNIQUE (name),
    CONSTRAINT image_name_check CHECK (char_length(name) BETWEEN 1 AND 512)
);

COMMENT ON TABLE image IS 'Container images';
COMMENT ON COLUMN image.id IS 'Key within this database';
COMMENT ON COLUMN image.name IS 'Name as requested, with its tag or digest if it has one';

CREATE TABLE endpoint (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    CONSTRAINT endpoint_pkey PRIMARY KEY (id),
    CONSTRAINT endpoint_name_key UNIQUE (name),
    CONSTRAINT endpoint_name_check CHECK (char_length(name) BETWEEN 1 AND 255)
);

COMMENT ON TABLE endpoint IS 'Build hosts';
COMMENT ON COLUMN endpoint.id IS 'Key within this database';
COMMENT ON COLUMN endpoint.name IS 'Name in the configuration of the builder';


-- Requests --------------------------------------------------------------------------------------

CREATE TABLE submit (
    uuid uuid NOT NULL,
    timestamp moment NOT NULL,
    requested_image_id bigint NOT NULL,
    requested_package_id bigint NOT NULL,
    repo_hash_id bigint NOT NULL,
    environment_id bigint NOT NULL,
    tree jsonb NOT NULL,
    buildplan jsonb NOT NULL,
    actor short_text,
    labels jsonb,
    CONSTRAINT submit_pkey PRIMARY KEY (uuid),
    CONSTRAINT submit_requested_image_id_fkey FOREIGN KEY (requested_image_id) REFERENCES image (id),
    CONSTRAINT submit_requested_package_id_fkey
    FOREIGN KEY (requested_package_id) REFERENCES package (id),
    CONSTRAINT submit_repo_hash_id_fkey FOREIGN KEY (repo_hash_id) REFERENCES git_hash (id),
    CONSTRAINT submit_environment_id_fkey
    FOREIGN KEY (environment_id) REFERENCES environment (id),
    CONSTRAINT submit_tree_check CHECK (tree_is_valid(tree)),
    CONSTRAINT submit_buildplan_check CHECK (buildplan_is_valid(buildplan)),
    CONSTRAINT submit_labels_check CHECK (
        jsonb_typeof(labels) = 'object'
        AND NOT jsonb_path_exists(labels, 'strict $.* ? (@.type() != "string")', silent => TRUE)
    )
);

CREATE INDEX submit_timestamp_idx ON submit (timestamp);
CREATE INDEX submit_requested_image_id_timestamp_idx ON submit (requested_image_id, timestamp);
CREATE INDEX submit_requested_package_id_timestamp_idx ON submit (requested_package_id, timestamp);
CREATE INDEX submit_repo_hash_id_timestamp_idx ON submit (repo_hash_id, timestamp);
CREATE INDEX submit_environment_id_idx ON submit (environment_id);
CREATE INDEX submit_tree_packages_idx ON submit USING gin (tree_packages(tree))
WITH (fastupdate = off);
CREATE INDEX submit_actor_timestamp_idx ON submit (actor, timestamp) WHERE actor IS NOT NULL;
CREATE INDEX submit_labels_idx ON submit USING gin (labels jsonb_path_ops)
WITH (fastupdate = off)
WHERE labels IS NOT NULL;

COMMENT ON TABLE submit IS 'Requests to build a package with all that it depends on';
COMMENT ON COLUMN submit.uuid IS 'The build request''s id, made by the builder';
COMMENT ON COLUMN submit.timestamp IS 'When the request was made, by the builder''s clock';
COMMENT ON COLUMN submit.requested_image_id IS 'The image that was asked for';
COMMENT ON COLUMN submit.requested_package_id IS 'The package that was asked for';
COMMENT ON COLUMN submit.repo_hash_id IS 'HEAD of the package repository when the request was made';
COMMENT ON COLUMN submit.environment_id IS 'Variables that it adds to the environment of each of its jobs';
COMMENT ON COLUMN submit.tree IS
'Package tree: {"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}; '
'a shared dependency is one node';
COMMENT ON COLUMN submit.buildplan IS
'Planned jobs: {"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}';
COMMENT ON COLUMN submit.actor IS 'Who or what made the request; NULL if nobody said';
COMMENT ON COLUMN submit.labels IS 'What else was said of it, {"key": "value"}; NULL for nothing';

CREATE VIEW submitenvs AS
SELECT
    s.uuid AS submit_uuid,
    ee.envvar_id
FROM submit AS s
JOIN environment_envvar AS ee ON ee.environment_id = s.environment_id;

COMMENT ON VIEW submitenvs IS 'Variables that a submit adds to the environment of each of its jobs';
COMMENT ON COLUMN submitenvs.submit_uuid IS 'The submit';
COMMENT ON COLUMN submitenvs.envvar_id IS 'A variable that it adds';


-- Builds ----------------------------------------------------------------------------------------

CREATE TABLE job (
    uuid uuid NOT NULL,
    submit_uuid uuid NOT NULL,
    endpoint_id bigint NOT NULL,
    package_id bigint NOT NULL,
    image_id bigint NOT NULL,
    environment_id bigint NOT NULL,
    state job_state NOT NULL,
    started_at moment NOT NULL,
    finished_at moment,
    heartbeat_at moment NOT NULL,
    fingerprint digest,
    image_sha256 digest,
    container_hash short_text,
    script text NOT NULL,
    log text,
    -- A text has at most 2^30 characters.
    -- squawk-ignore prefer-bigint-over-int
    log_pieces integer[],
    log_size nonnegative,
    exit_code bigint,
    reason nonempty_text,
    failure text COLLATE "C",
    failure_rule bigint,
    measurements measurements,
    swept_by uuid,
    claim nonnegative,
    CONSTRAINT job_pkey PRIMARY KEY (uuid),
    CONSTRAINT job_submit_uuid_fkey FOREIGN KEY (submit_uuid) REFERENCES submit (uuid),
    CONSTRAINT job_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES endpoint (id),
    CONSTRAINT job_package_id_fkey FOREIGN KEY (package_id) REFERENCES package (id),
    CONSTRAINT job_image_id_fkey FOREIGN KEY (image_id) REFERENCES image (id),
    CONSTRAINT job_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environment (id),
    CONSTRAINT job_finished_at_check CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT job_log_size_check CHECK ((finished_at IS NULL) = (log_size IS NULL)),
    CONSTRAINT job_check
    CHECK (finished_at IS NOT NULL OR num_nonnulls(log, exit_code, reason, measurements) = 0),
    CONSTRAINT job_failure_check CHECK (state = 'error' OR num_nonnulls(failure, failure_rule) = 0),
    CONSTRAINT job_swept_by_check CHECK (state = 'lost' OR swept_by IS NULL),
    CONSTRAINT job_claim_check CHECK (claim IS NULL OR fingerprint IS NOT NULL)
) WITH (
    fillfactor = 95,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);

CREATE INDEX job_started_at_idx ON job (started_at);
CREATE INDEX job_submit_uuid_started_at_idx ON job (submit_uuid, started_at);
CREATE INDEX job_endpoint_id_started_at_idx ON job (endpoint_id, started_at);
CREATE INDEX job_package_id_started_at_idx ON job (package_id, started_at);
CREATE INDEX job_package_id_image_id_started_at_idx ON job (package_id, image_id, started_at);
CREATE INDEX job_image_id_started_at_idx ON job (image_id, started_at);
CREATE INDEX job_environment_id_started_at_idx ON job (environment_id, started_at);
CREATE INDEX job_state_started_at_idx ON job (state, started_at);
-- Only what did not succeed pays, 40 bytes of index and 170 of WAL: found among all 44,057 jobs of a package,
-- its 3,795 failures took 50 ms, so: 12.
CREATE INDEX job_package_id_state_started_at_idx ON job (package_id, state, started_at)
WHERE state IN ('error', 'lost');
CREATE INDEX job_fingerprint_started_at_idx ON job (fingerprint, started_at)
WHERE state = 'success';
CREATE INDEX job_text_sha256_started_at_idx ON job (text_sha256(failure), started_at)
WHERE failure IS NOT NULL;
CREATE INDEX job_left_started_at_idx ON job ("left"(reason, 200), started_at)
WHERE reason IS NOT NULL;
CREATE INDEX job_swept_by_idx ON job (swept_by) WHERE swept_by IS NOT NULL;
CREATE UNIQUE INDEX job_fingerprint_claim_idx ON job (fingerprint, claim)
WHERE claim IS NOT NULL AND state IN ('running', 'success');

-- Whoever has UPDATE on job may end jobs that run. Only the owner, and the roles that a policy of
-- schema/roles.sql names, may write one that has ended. No FORCE, so that the owner is not bound:
-- migrations and dumps need all rows. No policy has a subquery, which Citus refuses.
ALTER TABLE job ENABLE ROW LEVEL SECURITY;
CREATE POLICY job_select ON job FOR SELECT USING (TRUE);
CREATE POLICY job_insert ON job FOR INSERT WITH CHECK (TRUE);
CREATE POLICY job_update ON job FOR UPDATE USING (state = 'running') WITH CHECK (TRUE);

COMMENT ON TABLE job IS 'Builds, each one run in one container. A job is here from the moment it starts';
COMMENT ON COLUMN job.uuid IS 'The job''s id, made by the builder';
COMMENT ON COLUMN job.submit_uuid IS 'The submit that it is part of';
COMMENT ON COLUMN job.endpoint_id IS 'The host that it runs on';
COMMENT ON COLUMN job.package_id IS 'The package that it builds';
COMMENT ON COLUMN job.image_id IS 'The image of its container';
COMMENT ON COLUMN job.environment_id IS
'Its whole environment: the package''s own and the submit''s additional one';
COMMENT ON COLUMN job.state IS
'running; then success, error, or, if its builder went silent, lost. Only success is reused';
COMMENT ON COLUMN job.started_at IS 'Start, by the builder''s clock';
COMMENT ON COLUMN job.finished_at IS
'End, by the builder''s clock; before the start if that clock was set back. '
'A job that was swept as lost ends with its last sign of life';
COMMENT ON COLUMN job.heartbeat_at IS
'Last sign of life: when the job was added or ended, by the builder''s clock; in between, by the '
'database''s, in whole milliseconds. The later statements of the write that added or ended the job find it '
'by this moment, which is no whole millisecond';
COMMENT ON COLUMN job.fingerprint IS
'job_fingerprint() of package, image, script, environment and inputs. Equal means: the same build. '
'NULL, which equals nothing, if the content of an input is unknown';
COMMENT ON COLUMN job.image_sha256 IS
'What the image''s name meant then, by the SHA-256 of its manifest; NULL if that is not known';
COMMENT ON COLUMN job.container_hash IS 'The container''s id; NULL until it is known';
COMMENT ON COLUMN job.script IS 'The script that ran in the container';
COMMENT ON COLUMN job.log IS
'The log of an ended job; NULL while it runs, and, in an ended job, if the log was removed. job_log() adds '
'what is still in job_log_chunk. A byte that text cannot hold is \xHH, and a backslash before such a form is \x5c';
COMMENT ON COLUMN job.log_pieces IS
'Characters of each chunk that log was made of, in order: where each begins, so that a repeated one is '
'told from another; NULL if it was not made of chunks';
COMMENT ON COLUMN job.log_size IS
'Bytes of the log when the job ended, kept when the log is removed; NULL while it runs';
COMMENT ON COLUMN job.exit_code IS
'What the script''s process ended with; negative, as in Python, for a signal; NULL if nobody said';
COMMENT ON COLUMN job.reason IS
'Why it ended as it did, in the builder''s words: "timeout", for instance; NULL if nobody said';
COMMENT ON COLUMN job.failure IS
'failure_lines() of its log, written when it ended; NULL unless it failed. Equal means: the same failure';
COMMENT ON COLUMN job.failure_rule IS 'failure_rule() when failure was written';
COMMENT ON COLUMN job.measurements IS
'What the builder measured, {"name": number}, as {"cpu_seconds": 1.5}; NULL for nothing';
COMMENT ON COLUMN job.swept_by IS
'The sweep that marked it as lost, by which a repeated one is known; NULL for all other jobs';
COMMENT ON COLUMN job.claim IS
'Of a build that is to be done once its number: 0, or one more than that of the last success whose results '
'proved to be of no use. No other job with this fingerprint and number runs or succeeds. NULL where it is '
'done whatever others do';

CREATE VIEW jobenvs AS
SELECT
    j.uuid AS job_uuid,
    ee.envvar_id
FROM job AS j
JOIN environment_envvar AS ee ON ee.environment_id = j.environment_id;

COMMENT ON VIEW jobenvs IS
'The whole environment of a job: the package''s own and the submit''s additional one';
COMMENT ON COLUMN jobenvs.job_uuid IS 'The job';
COMMENT ON COLUMN jobenvs.envvar_id IS 'A variable of its environment';

CREATE TABLE job_log_chunk (
    job_uuid uuid NOT NULL,
    seq nonnegative NOT NULL,
    chunk text NOT NULL,
    CONSTRAINT job_log_chunk_pkey PRIMARY KEY (job_uuid, seq),
    CONSTRAINT job_log_chunk_job_uuid_fkey FOREIGN KEY (job_uuid) REFERENCES job (uuid)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    vacuum_truncate = off,
    toast.vacuum_truncate = off
);

-- All rows to whoever has the privilege; schema/roles.sql narrows that for builders.
ALTER TABLE job_log_chunk ENABLE ROW LEVEL SECURITY;
CREATE POLICY job_log_chunk_all ON job_log_chunk USING (TRUE);

COMMENT ON TABLE job_log_chunk IS
'Logs of running jobs, as they arrive. The end of a job folds its chunks into job.log; '
'a log over 512 MiB stays here';
COMMENT ON COLUMN job_log_chunk.job_uuid IS 'The job';
COMMENT ON COLUMN job_log_chunk.seq IS 'Place in the log, counted from 0 by the builder, without a gap';
COMMENT ON COLUMN job_log_chunk.chunk IS 'A piece of the log, escaped as job.log is';

CREATE TABLE artifact (
    uuid uuid NOT NULL,
    job_uuid uuid,
    path relative_path NOT NULL,
    -- text_sha256(path), spelled out: of a function each INSERT would read the body anew.
    path_sha256 bytea NOT NULL GENERATED ALWAYS AS (
        sha256(decode(replace(path, '\', '\\'), 'escape'))
    ) STORED,
    sha256 digest,
    size nonnegative,
    CONSTRAINT artifact_pkey PRIMARY KEY (uuid),
    CONSTRAINT artifact_job_uuid_fkey FOREIGN KEY (job_uuid) REFERENCES job (uuid),
    CONSTRAINT artifact_job_uuid_path_sha256_key UNIQUE (job_uuid, path_sha256)
) WITH (
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);

CREATE UNIQUE INDEX artifact_path_sha256_sha256_idx ON artifact (path_sha256, sha256)
WHERE job_uuid IS NULL;
CREATE UNIQUE INDEX artifact_path_sha256_uuid_idx ON artifact (path_sha256, uuid);
CREATE INDEX artifact_sha256_uuid_idx ON artifact (sha256, uuid);

COMMENT ON TABLE artifact IS
'Files: the outputs of jobs, and files from outside that jobs read. '
'The same path with other content is another artifact';
COMMENT ON COLUMN artifact.uuid IS 'The artifact''s id, made by the builder';
COMMENT ON COLUMN artifact.job_uuid IS
'The job that made it, each path once; NULL for a file from outside, each path and content once';
COMMENT ON COLUMN artifact.path IS 'Path relative to the root of the store that holds the file';
COMMENT ON COLUMN artifact.path_sha256 IS 'SHA-256 of the path, which may be too long for an index';
COMMENT ON COLUMN artifact.sha256 IS
'SHA-256 of the content; NULL, which equals nothing, in a record from a store that never had it';
COMMENT ON COLUMN artifact.size IS 'Size of the content in bytes; NULL if it is not known';

CREATE TABLE job_input_artifacts (
    job_uuid uuid NOT NULL,
    artifact_uuid uuid NOT NULL,
    CONSTRAINT job_input_artifacts_pkey PRIMARY KEY (job_uuid, artifact_uuid),
    CONSTRAINT job_input_artifacts_job_uuid_fkey FOREIGN KEY (job_uuid) REFERENCES job (uuid),
    CONSTRAINT job_input_artifacts_artifact_uuid_fkey
    FOREIGN KEY (artifact_uuid) REFERENCES artifact (uuid)
);

CREATE INDEX job_input_artifacts_artifact_uuid_job_uuid_idx
ON job_input_artifacts (artifact_uuid, job_uuid);

COMMENT ON TABLE job_input_artifacts IS 'Files copied into the container of a job';
COMMENT ON COLUMN job_input_artifacts.job_uuid IS 'The job that read the file';
COMMENT ON COLUMN job_input_artifacts.artifact_uuid IS 'The file';

CREATE TABLE reuse (
    submit_uuid uuid NOT NULL,
    job_uuid uuid NOT NULL,
    package_id bigint NOT NULL,
    timestamp moment NOT NULL,
    CONSTRAINT reuse_pkey PRIMARY KEY (submit_uuid, job_uuid),
    CONSTRAINT reuse_submit_uuid_fkey FOREIGN KEY (submit_uuid) REFERENCES submit (uuid),
    CONSTRAINT reuse_job_uuid_fkey FOREIGN KEY (job_uuid) REFERENCES job (uuid),
    CONSTRAINT reuse_package_id_fkey FOREIGN KEY (package_id) REFERENCES package (id)
);

CREATE INDEX reuse_job_uuid_idx ON reuse (job_uuid);
-- With package_id 40 bytes of disk and 100 of WAL: joined with job, the 4,025 reuses of a package took 399 ms
-- to find among 90,000, so: 33.
CREATE INDEX reuse_package_id_timestamp_idx ON reuse (package_id, timestamp);
CREATE INDEX reuse_timestamp_idx ON reuse (timestamp);

COMMENT ON TABLE reuse IS 'Earlier jobs whose outputs a submit took, rather than build them again';
COMMENT ON COLUMN reuse.submit_uuid IS 'The submit';
COMMENT ON COLUMN reuse.job_uuid IS 'The job that was not run again';
COMMENT ON COLUMN reuse.package_id IS
'job.package_id, by which the reuses of a package are found newest first';
COMMENT ON COLUMN reuse.timestamp IS 'When the builder chose it, by the builder''s clock';

CREATE FUNCTION job_log(job uuid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
-- Both parts, always: a log too long for job.log stays in its chunks.
BEGIN ATOMIC
    SELECT
        CASE WHEN j.state = 'running' THEN '' ELSE j.log END
        || (
            SELECT coalesce(string_agg(c.chunk, '' ORDER BY c.seq), '')
            FROM job_log_chunk AS c
            WHERE c.job_uuid = j.uuid
        )
    FROM job AS j
    WHERE j.uuid = job;
END;

COMMENT ON FUNCTION job_log(uuid) IS
'The log of a job, running or ended; NULL if there is no such job, or if the log was removed. One over '
'1 GB is no text: sql/job/log.sql gives it in pieces. Call it for one job, not for each row';


-- Releases --------------------------------------------------------------------------------------

CREATE TABLE release_store (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    CONSTRAINT release_store_pkey PRIMARY KEY (id),
    CONSTRAINT release_store_name_key UNIQUE (name),
    CONSTRAINT release_store_name_check CHECK (char_length(name) BETWEEN 1 AND 255)
);

COMMENT ON TABLE release_store IS 'Places that artifacts are released to';
COMMENT ON COLUMN release_store.id IS 'Key within this database';
COMMENT ON COLUMN release_store.name IS 'Name in the configuration of the builder';

CREATE TABLE release (
    uuid uuid NOT NULL,
    artifact_uuid uuid NOT NULL,
    release_store_id bigint NOT NULL,
    path_sha256 bytea NOT NULL,
    timestamp moment NOT NULL,
    actor short_text NOT NULL,
    CONSTRAINT release_pkey PRIMARY KEY (uuid, artifact_uuid),
    CONSTRAINT release_artifact_uuid_path_sha256_fkey
    FOREIGN KEY (artifact_uuid, path_sha256) REFERENCES artifact (uuid, path_sha256),
    CONSTRAINT release_release_store_id_fkey
    FOREIGN KEY (release_store_id) REFERENCES release_store (id)
);

CREATE INDEX release_artifact_uuid_path_sha256_idx ON release (artifact_uuid, path_sha256);
CREATE INDEX release_release_store_id_timestamp_idx ON release (release_store_id, timestamp);
-- What replaced a release is one probe, however often its path was built and released.
CREATE INDEX release_release_store_id_path_sha256_timestamp_idx
ON release (release_store_id, path_sha256, timestamp);
CREATE INDEX release_timestamp_idx ON release (timestamp);

COMMENT ON TABLE release IS
'Artifacts given to a release store. Rows are only added, and an artifact with one cannot be deleted';
COMMENT ON COLUMN release.uuid IS 'The act of releasing: one artifact, or many at once';
COMMENT ON COLUMN release.artifact_uuid IS 'What was released';
COMMENT ON COLUMN release.release_store_id IS 'Where to';
COMMENT ON COLUMN release.path_sha256 IS
'artifact.path_sha256: the place in the release store, which a later release of the same path takes over';
COMMENT ON COLUMN release.timestamp IS 'When, by the clock of whoever released it';
COMMENT ON COLUMN release.actor IS 'Who released it';

CREATE TABLE release_withdrawal (
    release_uuid uuid NOT NULL,
    artifact_uuid uuid NOT NULL,
    timestamp moment NOT NULL,
    actor short_text NOT NULL,
    reason nonempty_text NOT NULL,
    CONSTRAINT release_withdrawal_pkey PRIMARY KEY (release_uuid, artifact_uuid),
    CONSTRAINT release_withdrawal_release_uuid_artifact_uuid_fkey
    FOREIGN KEY (release_uuid, artifact_uuid) REFERENCES release (uuid, artifact_uuid)
);

COMMENT ON TABLE release_withdrawal IS 'Releases that were taken back. Rows are only added';
COMMENT ON COLUMN release_withdrawal.release_uuid IS
'The release that was taken back, together with artifact_uuid';
COMMENT ON COLUMN release_withdrawal.artifact_uuid IS 'What was taken back';
COMMENT ON COLUMN release_withdrawal.timestamp IS 'When, by the clock of whoever took it back';
COMMENT ON COLUMN release_withdrawal.actor IS 'Who took it back';
COMMENT ON COLUMN release_withdrawal.reason IS 'Why';


-- Provenance and impact -------------------------------------------------------------------------

CREATE FUNCTION artifact_ancestors(artifacts uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE STRICT PARALLEL SAFE
-- Walks over jobs and artifacts in turn: each is followed once, however many ways lead to it, so that
-- the time grows with the edges.
BEGIN ATOMIC
    WITH RECURSIVE node (is_job, uuid) AS (
        SELECT
            TRUE AS is_job,
            a.job_uuid
        FROM artifact AS a
        WHERE a.uuid = ANY(artifacts) AND a.job_uuid IS NOT NULL
        UNION
        SELECT
            NOT n.is_job AS is_job,
            x.uuid
        FROM node AS n
        CROSS JOIN LATERAL (
            SELECT ji.artifact_uuid AS uuid
            FROM job_input_artifacts AS ji
            WHERE n.is_job AND ji.job_uuid = n.uuid
            UNION ALL
            SELECT a.job_uuid
            FROM artifact AS a
            WHERE NOT n.is_job AND a.uuid = n.uuid AND a.job_uuid IS NOT NULL
        ) AS x
    )

    SELECT n.uuid
    FROM node AS n
    WHERE NOT n.is_job;
END;

COMMENT ON FUNCTION artifact_ancestors(uuid[]) IS
'All that went into these artifacts, each once, back to the files that no job made. '
'Call it once, not for each row';

CREATE FUNCTION artifact_descendants(artifacts uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE node (is_job, uuid) AS (
        SELECT
            TRUE AS is_job,
            ji.job_uuid
        FROM job_input_artifacts AS ji
        WHERE ji.artifact_uuid = ANY(artifacts)
        UNION
        SELECT
            NOT n.is_job AS is_job,
            x.uuid
        FROM node AS n
        CROSS JOIN LATERAL (
            SELECT a.uuid
            FROM artifact AS a
            WHERE n.is_job AND a.job_uuid = n.uuid
            UNION ALL
            SELECT ji.job_uuid
            FROM job_input_artifacts AS ji
            WHERE NOT n.is_job AND ji.artifact_uuid = n.uuid
        ) AS x
    )

    SELECT n.uuid
    FROM node AS n
    WHERE NOT n.is_job;
END;

COMMENT ON FUNCTION artifact_descendants(uuid[]) IS
'All that was made from these artifacts, each once, directly or by way of other files. '
'Call it once, not for each row';


-- Retention -------------------------------------------------------------------------------------

CREATE TABLE retention_rule (
    position bigint NOT NULL,
    what text COLLATE "C" NOT NULL,
    package text COLLATE "C" NOT NULL,
    image text COLLATE "C",
    state text COLLATE "C",
    older_than interval,
    keep_newest bigint,
    keep_last_success boolean,
    CONSTRAINT retention_rule_pkey PRIMARY KEY (position),
    CONSTRAINT retention_rule_what_check CHECK (what IN ('log', 'record')),
    -- LIKE fails on a pattern that ends in a backslash without its character.
    CONSTRAINT retention_rule_package_check
    CHECK (package <> '' AND "right"(replace(package, '\\', ''), 1) <> '\'),
    CONSTRAINT retention_rule_image_check
    CHECK (image <> '' AND "right"(replace(image, '\\', ''), 1) <> '\'),
    CONSTRAINT retention_rule_state_check CHECK (state IN ('success', 'error', 'lost')),
    CONSTRAINT retention_rule_older_than_check
    CHECK (date_part('epoch', older_than) BETWEEN 0 AND 31557600000),
    CONSTRAINT retention_rule_keep_newest_check
    CHECK (keep_newest IS NULL OR (keep_newest > 0 AND older_than IS NOT NULL)),
    CONSTRAINT retention_rule_keep_last_success_check CHECK (
        keep_last_success IS NOT TRUE
        OR (older_than IS NOT NULL AND coalesce(state, 'success') = 'success')
    )
);

COMMENT ON TABLE retention_rule IS
'What may be removed, and when. Of the rules for logs, and of those for records, the first one whose package, '
'image and state fit a job decides. Without a rule nothing is removed. Whatever the rules say, a job that runs '
'stays; one whose output was released keeps its record and log, and so does each that made what one of these '
'read. A record stays, too, as long as one that stays was made from it, or a submit that stays reused it';
COMMENT ON COLUMN retention_rule.position IS 'The rules are asked from the lowest to the highest';
COMMENT ON COLUMN retention_rule.what IS
'log: the log of a job, whose record stays; record: the job with its outputs and inputs, and its submit with '
'the last of its jobs';
COMMENT ON COLUMN retention_rule.package IS
'Names of packages, as a pattern of LIKE: % stands for any text, _ for any character, \_ for itself';
COMMENT ON COLUMN retention_rule.image IS 'Names of images, as a pattern of LIKE; NULL for all';
COMMENT ON COLUMN retention_rule.state IS 'State of the jobs; NULL for all but running ones';
COMMENT ON COLUMN retention_rule.older_than IS
'What started longer ago goes, a month taken as 30 days and a year as 365.25; NULL if it stays for ever. Set it '
'longer than any build takes, since a submit goes with the last of its jobs';
COMMENT ON COLUMN retention_rule.keep_newest IS
'Of the jobs of a package, version and image that this rule decides on, so many of the newest stay';
COMMENT ON COLUMN retention_rule.keep_last_success IS
'Whether the newest successful job of each package, version and image stays';

CREATE TABLE retention_walk (
    what text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    uuid uuid NOT NULL,
    CONSTRAINT retention_walk_pkey PRIMARY KEY (what),
    CONSTRAINT retention_walk_what_check CHECK (what IN ('log', 'record', 'submit'))
);

COMMENT ON TABLE retention_walk IS
'How far each walk of the statements in sql/retention came, newest first. They lock its row, so that two do '
'not walk at once';
COMMENT ON COLUMN retention_walk.what IS 'What is removed: log, record, or submit for those without jobs';
COMMENT ON COLUMN retention_walk.started_at IS 'Start of the last job, or time of the last submit';
COMMENT ON COLUMN retention_walk.uuid IS 'The last job, or submit';

CREATE VIEW retention_job AS
SELECT
    w.what,
    j.uuid AS job_uuid,
    r.position,
    CASE
        WHEN j.state = 'running' THEN 'running'
        WHEN r.position IS NULL THEN 'no rule'
        WHEN r.older_than IS NULL THEN 'rule'
        WHEN j.started_at > now() - date_part('epoch', r.older_than) * interval '1 second' THEN 'age'
        WHEN
            -- IS TRUE: after NULL the rest would be looked up, too.
            r.keep_last_success IS TRUE AND j.state = 'success' AND NOT EXISTS (
                SELECT 1
                FROM job AS k
                WHERE
                    k.package_id = j.package_id
                    AND k.image_id = j.image_id
                    AND k.state = 'success'
                    AND (k.started_at, k.uuid) > (j.started_at, j.uuid)
            )
            THEN 'last success'
        WHEN
            r.keep_newest > (
                SELECT count(*)
                FROM (
                    SELECT 1
                    FROM job AS k
                    WHERE
                        k.package_id = j.package_id
                        AND k.image_id = j.image_id
                        AND (k.started_at, k.uuid) > (j.started_at, j.uuid)
                        AND CASE
                            WHEN r.state IS NOT NULL THEN k.state = r.state
                            -- The rule decides on all states that none before it asks for.
                            ELSE k.state <> 'running' AND NOT EXISTS (
                                SELECT 1
                                FROM retention_rule AS b
                                WHERE
                                    b.what = w.what
                                    AND b.position < r.position
                                    AND b.state = k.state
                                    AND p.name LIKE b.package
                                    AND i.name LIKE coalesce(b.image, '%')
                            )
                        END
                    -- LIMIT NULL would count all.
                    LIMIT coalesce(r.keep_newest, 0)
                ) AS newer
            )
            THEN 'newest'
    END AS stays
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
CROSS JOIN unnest(ARRAY['log', 'record']) AS w (what)
LEFT JOIN LATERAL (
    SELECT
        f.position,
        f.state,
        f.older_than,
        f.keep_newest,
        f.keep_last_success
    FROM retention_rule AS f
    WHERE
        f.what = w.what
        AND p.name LIKE f.package
        AND i.name LIKE coalesce(f.image, '%')
        AND coalesce(f.state, j.state) = j.state
    ORDER BY f.position
    LIMIT 1
) AS r ON TRUE;

COMMENT ON VIEW retention_job IS
'What the rules say of each job now. What is kept whatever they say may stay all the same';
COMMENT ON COLUMN retention_job.what IS 'log or record';
COMMENT ON COLUMN retention_job.job_uuid IS 'The job';
COMMENT ON COLUMN retention_job.position IS 'The rule that decides; NULL if none does';
COMMENT ON COLUMN retention_job.stays IS
'Why it stays: running, no rule, rule for one that keeps for ever, age, newest, or last success; NULL if it '
'is to go';

CREATE VIEW retention_log_reader AS
SELECT
    ji.artifact_uuid,
    c.uuid AS job_uuid
FROM job_input_artifacts AS ji
JOIN job AS c ON c.uuid = ji.job_uuid
WHERE
    c.state = 'running'
    OR (
        c.state = 'success' AND (
            c.log IS NOT NULL
            OR EXISTS (
                SELECT 1
                FROM artifact AS o
                JOIN release AS r ON r.artifact_uuid = o.uuid
                WHERE o.job_uuid = c.uuid
            )
        )
    );

COMMENT ON VIEW retention_log_reader IS
'The jobs for which the logs of those that made what they read are kept: those that run, and those that '
'succeeded and have their own log, or were released';
COMMENT ON COLUMN retention_log_reader.artifact_uuid IS 'The file that was read';
COMMENT ON COLUMN retention_log_reader.job_uuid IS 'The job that read it';

CREATE VIEW retention_submit AS
SELECT
    s.uuid AS submit_uuid,
    r.position,
    CASE
        WHEN EXISTS (SELECT 1 FROM job AS j WHERE j.submit_uuid = s.uuid) THEN 'jobs'
        WHEN r.position IS NULL THEN 'no rule'
        WHEN r.older_than IS NULL THEN 'rule'
        WHEN s.timestamp > now() - date_part('epoch', r.older_than) * interval '1 second' THEN 'age'
    END AS stays
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
LEFT JOIN LATERAL (
    SELECT
        f.position,
        f.older_than
    FROM retention_rule AS f
    WHERE
        f.what = 'record'
        AND p.name LIKE f.package
        AND i.name LIKE coalesce(f.image, '%')
        -- What it reused were successful jobs.
        AND (
            coalesce(f.state, 'success') = 'success'
            OR NOT EXISTS (SELECT 1 FROM reuse AS u WHERE u.submit_uuid = s.uuid)
        )
    ORDER BY f.position
    LIMIT 1
) AS r ON TRUE;

COMMENT ON VIEW retention_submit IS
'What the rules say now of each submit. One that ran jobs goes with the last of them. One that ran none, since '
'it reused all for instance, is taken for a job of what it asked for, a successful one if it reused any';
COMMENT ON COLUMN retention_submit.submit_uuid IS 'The submit';
COMMENT ON COLUMN retention_submit.position IS 'The rule that decides; NULL if none does';
COMMENT ON COLUMN retention_submit.stays IS
'Why it stays: jobs, no rule, rule for one that keeps for ever, or age; NULL if it is to go';


-- Views for people ------------------------------------------------------------------------------

CREATE VIEW submit_overview AS
SELECT
    s.uuid,
    s.timestamp,
    p.name AS package,
    p.version,
    i.name AS image,
    g.hash AS repo_hash,
    s.actor,
    s.labels,
    jsonb_array_length(s.tree -> 'nodes') AS packages_in_tree,
    jsonb_array_length(s.buildplan -> 'jobs') AS jobs_planned,
    n.jobs,
    n.running,
    n.success,
    n.error,
    n.lost,
    (SELECT count(*) FROM reuse AS u WHERE u.submit_uuid = s.uuid) AS reused,
    n.last_finished_at - s.timestamp AS duration
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (WHERE j.state = 'running') AS running,
        count(*) FILTER (WHERE j.state = 'success') AS success,
        count(*) FILTER (WHERE j.state = 'error') AS error,
        count(*) FILTER (WHERE j.state = 'lost') AS lost,
        max(j.finished_at) AS last_finished_at
    FROM job AS j
    WHERE j.submit_uuid = s.uuid
) AS n;

COMMENT ON VIEW submit_overview IS 'Submits with names instead of ids, and their jobs counted by state';
COMMENT ON COLUMN submit_overview.uuid IS 'submit.uuid';
COMMENT ON COLUMN submit_overview.timestamp IS 'When the request was made';
COMMENT ON COLUMN submit_overview.package IS 'Name of the requested package';
COMMENT ON COLUMN submit_overview.version IS 'Version of the requested package';
COMMENT ON COLUMN submit_overview.image IS 'Name of the requested image';
COMMENT ON COLUMN submit_overview.repo_hash IS 'Commit of the package repository';
COMMENT ON COLUMN submit_overview.actor IS 'submit.actor';
COMMENT ON COLUMN submit_overview.labels IS 'submit.labels';
COMMENT ON COLUMN submit_overview.packages_in_tree IS 'Packages in the tree, the requested one included';
COMMENT ON COLUMN submit_overview.jobs_planned IS 'Jobs in the build plan';
COMMENT ON COLUMN submit_overview.jobs IS 'Jobs that were started';
COMMENT ON COLUMN submit_overview.running IS 'Jobs that have not ended';
COMMENT ON COLUMN submit_overview.success IS 'Jobs that ended well';
COMMENT ON COLUMN submit_overview.error IS 'Jobs that failed';
COMMENT ON COLUMN submit_overview.lost IS 'Jobs whose builder went silent';
COMMENT ON COLUMN submit_overview.reused IS 'Earlier jobs whose outputs it took, rather than run them again';
COMMENT ON COLUMN submit_overview.duration IS 'From the request to the end of its last ended job';

CREATE VIEW job_overview AS
SELECT
    j.uuid,
    j.submit_uuid,
    j.state,
    p.name AS package,
    p.version,
    i.name AS image,
    e.name AS endpoint,
    j.started_at,
    j.finished_at,
    j.finished_at - j.started_at AS duration,
    j.reason,
    j.exit_code,
    j.measurements,
    j.heartbeat_at,
    encode(j.image_sha256, 'hex') AS image_sha256,
    j.container_hash,
    encode(j.fingerprint, 'hex') AS fingerprint,
    j.log_size,
    j.state <> 'running' AND j.log IS NULL AS log_removed,
    (SELECT count(*) FROM environment_envvar AS ee WHERE ee.environment_id = j.environment_id) AS envs,
    (SELECT count(*) FROM job_input_artifacts AS ji WHERE ji.job_uuid = j.uuid) AS inputs,
    (SELECT count(*) FROM artifact AS a WHERE a.job_uuid = j.uuid) AS outputs
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id;

COMMENT ON VIEW job_overview IS
'Jobs with names instead of ids, their duration, and how many variables, inputs and outputs each has';
COMMENT ON COLUMN job_overview.uuid IS 'job.uuid';
COMMENT ON COLUMN job_overview.submit_uuid IS 'The submit that it is part of';
COMMENT ON COLUMN job_overview.state IS 'running, success, error or lost';
COMMENT ON COLUMN job_overview.package IS 'Name of the package';
COMMENT ON COLUMN job_overview.version IS 'Version of the package';
COMMENT ON COLUMN job_overview.image IS 'Name of the image';
COMMENT ON COLUMN job_overview.endpoint IS 'Name of the build host';
COMMENT ON COLUMN job_overview.started_at IS 'Start';
COMMENT ON COLUMN job_overview.finished_at IS 'End; NULL while it runs';
COMMENT ON COLUMN job_overview.duration IS 'From start to end; NULL while it runs';
COMMENT ON COLUMN job_overview.reason IS 'Why it ended as it did; NULL if nobody said';
COMMENT ON COLUMN job_overview.exit_code IS 'What its process ended with; NULL if nobody said';
COMMENT ON COLUMN job_overview.measurements IS 'What was measured of it, {"name": number}; NULL for nothing';
COMMENT ON COLUMN job_overview.heartbeat_at IS 'Last sign of life';
COMMENT ON COLUMN job_overview.image_sha256 IS
'job.image_sha256 in hexadecimal; NULL if it is not known';
COMMENT ON COLUMN job_overview.container_hash IS 'The container''s id; NULL until it is known';
COMMENT ON COLUMN job_overview.fingerprint IS
'job.fingerprint in hexadecimal; NULL if the content of an input is unknown';
COMMENT ON COLUMN job_overview.log_size IS
'Bytes of the log when the job ended; NULL while it runs';
COMMENT ON COLUMN job_overview.log_removed IS 'Whether the log was removed after the job had ended';
COMMENT ON COLUMN job_overview.envs IS 'Variables of its environment';
COMMENT ON COLUMN job_overview.inputs IS 'Files that it read';
COMMENT ON COLUMN job_overview.outputs IS 'Files that it made';

CREATE VIEW artifact_overview AS
SELECT
    a.uuid,
    a.path,
    encode(a.sha256, 'hex') AS sha256,
    a.size,
    a.job_uuid,
    j.state AS job_state,
    p.name AS package,
    p.version,
    j.finished_at AS made_at,
    (SELECT count(*) FROM job_input_artifacts AS ji WHERE ji.artifact_uuid = a.uuid) AS used_by
FROM artifact AS a
LEFT JOIN job AS j ON j.uuid = a.job_uuid
LEFT JOIN package AS p ON p.id = j.package_id;

COMMENT ON VIEW artifact_overview IS 'Artifacts with the job that made each and how many jobs read it';
COMMENT ON COLUMN artifact_overview.uuid IS 'artifact.uuid';
COMMENT ON COLUMN artifact_overview.path IS 'Path in the store that holds the file';
COMMENT ON COLUMN artifact_overview.sha256 IS
'SHA-256 of the content in hexadecimal; NULL if it is not known';
COMMENT ON COLUMN artifact_overview.size IS 'Size in bytes; NULL if it is not known';
COMMENT ON COLUMN artifact_overview.job_uuid IS 'The job that made it; NULL for a file from outside';
COMMENT ON COLUMN artifact_overview.job_state IS 'State of that job';
COMMENT ON COLUMN artifact_overview.package IS 'Name of the package that the job built';
COMMENT ON COLUMN artifact_overview.version IS 'Version of that package';
COMMENT ON COLUMN artifact_overview.made_at IS 'End of that job';
COMMENT ON COLUMN artifact_overview.used_by IS 'Jobs that read it';

CREATE VIEW release_current AS
SELECT
    r.uuid,
    r.artifact_uuid,
    rs.name AS store,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    r.timestamp,
    r.actor
FROM release AS r
JOIN release_store AS rs ON rs.id = r.release_store_id
JOIN artifact AS a ON a.uuid = r.artifact_uuid
WHERE
    NOT EXISTS (
        SELECT 1
        FROM release_withdrawal AS w
        WHERE w.release_uuid = r.uuid AND w.artifact_uuid = r.artifact_uuid
    )
    AND NOT EXISTS (
        SELECT 1
        FROM release AS l
        WHERE
            l.release_store_id = r.release_store_id
            AND l.path_sha256 = r.path_sha256
            AND (l.timestamp, l.uuid, l.artifact_uuid) > (r.timestamp, r.uuid, r.artifact_uuid)
    );

COMMENT ON VIEW release_current IS
'What is released now: of each path in each store the latest release, if it was not taken back. '
'Where it was, nothing is there: it had overwritten the file of the one before';
COMMENT ON COLUMN release_current.uuid IS 'release.uuid';
COMMENT ON COLUMN release_current.artifact_uuid IS 'The artifact';
COMMENT ON COLUMN release_current.store IS 'Name of the release store';
COMMENT ON COLUMN release_current.path IS 'Path of the artifact';
COMMENT ON COLUMN release_current.sha256 IS 'SHA-256 of its content; NULL if it is not known';
COMMENT ON COLUMN release_current.size IS 'Its size in bytes; NULL if it is not known';
COMMENT ON COLUMN release_current.job_uuid IS 'The job that made it; NULL for a file from outside';
COMMENT ON COLUMN release_current.timestamp IS 'When it was released';
COMMENT ON COLUMN release_current.actor IS 'Who released it';
