-- Four roles, and what each may do with a store.
--
-- Run it in psql, in the store's database, as a superuser or a role that may create roles:
--
--     psql -d builds -f schema/roles.sql
--     psql -d builds -v schema=tools -v builder=ci -f schema/roles.sql
--
-- owner    owns the schema and all that is in it: `butido-store migrate apply --role butido_owner`
-- builder  records: submits, jobs, files and releases; ends and sweeps jobs that run
-- janitor  sweeps, prunes, takes releases back, and writes failures by a newer rule
-- reader   reads
--
-- None of them logs in: CREATE ROLE alice LOGIN IN ROLE butido_reader. It sets their privileges on tables anew,
-- so it is safe to run again. Before the first `migrate apply` it makes the roles and the schema for their owner;
-- run it once more after that. What a later migration makes, the reader reads, the builder adds to and the
-- janitor deletes from by default privileges; the notes of a release say if it takes more.
--
-- What a builder cannot do, whatever it was talked into:
--   delete a record, or change any but a running job: a policy of the schema leaves ended ones out;
--   change what a job builds, which is its identity: it may write the columns that starting, a sign of life
--   and the end need;
--   change a release, or take one back: whom the builds reach is for people to decide.
-- It is the witness, and can add what is not true: another job, another input or output of one that has ended,
-- or a variable to an environment that is there, which its SHA-256 tells. It can end any job that runs, and
-- drop the pieces of its log.

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema butido
\endif
\if :{?owner}
\else
    \set owner :schema _owner
\endif
\if :{?builder}
\else
    \set builder :schema _builder
\endif
\if :{?janitor}
\else
    \set janitor :schema _janitor
\endif
\if :{?reader}
\else
    \set reader :schema _reader
\endif

BEGIN;

-- A policy, or another owner, takes a lock for which readers and writers wait. Where both are as they
-- should be, none is taken.
SET LOCAL lock_timeout = '150ms';
SET LOCAL client_min_messages = warning;

-- The roles and the schema -----------------------------------------------------------------------

SELECT 'DO $$ BEGIN RAISE ''owner, builder, janitor and reader have to be four roles''; END $$'
WHERE (
    SELECT count(DISTINCT r.name)
    FROM unnest(ARRAY[:'owner', :'builder', :'janitor', :'reader']) AS r (name)
) < 4
\gexec

SELECT format('CREATE ROLE %I NOLOGIN', r.name)
FROM unnest(ARRAY[:'owner', :'builder', :'janitor', :'reader']) AS r (name)
WHERE NOT EXISTS (SELECT FROM pg_roles AS p WHERE p.rolname = r.name)
ORDER BY r.name
\gexec

-- Whoever is no superuser grants in the owner's name.
SELECT format('GRANT %I TO CURRENT_USER', :'owner')
WHERE NOT pg_has_role(:'owner', 'USAGE')
\gexec

SELECT format('CREATE SCHEMA %I AUTHORIZATION %I', :'schema', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = :'schema')
\gexec

SELECT format('ALTER SCHEMA %I OWNER TO %I', n.nspname, :'owner')
FROM pg_namespace AS n
WHERE n.nspname = :'schema' AND pg_get_userbyid(n.nspowner) <> :'owner'
\gexec

-- An identity's sequence goes with its table.
SELECT format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, :'owner')
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid
WHERE
    n.nspname = :'schema'
    AND c.relkind IN ('r', 'p', 'v')
    AND pg_get_userbyid(c.relowner) <> :'owner'
ORDER BY c.relname
\gexec

SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, :'owner')
FROM pg_namespace AS n
JOIN pg_proc AS p ON p.pronamespace = n.oid
WHERE n.nspname = :'schema' AND pg_get_userbyid(p.proowner) <> :'owner'
ORDER BY p.oid
\gexec

-- What all of them may ---------------------------------------------------------------------------

SET LOCAL search_path TO :"schema";

GRANT USAGE ON SCHEMA :"schema" TO :"builder", :"janitor", :"reader";
REVOKE ALL ON ALL TABLES IN SCHEMA :"schema" FROM :"builder", :"janitor", :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"builder", :"janitor", :"reader";
-- For doctor, which sees by it whether a sequence is behind its table.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA :"schema" TO :"builder", :"janitor", :"reader";
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA :"schema" TO :"builder", :"janitor", :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
GRANT SELECT ON TABLES TO :"builder", :"janitor", :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
GRANT SELECT ON SEQUENCES TO :"builder", :"janitor", :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
GRANT EXECUTE ON ROUTINES TO :"builder", :"janitor", :"reader";

SELECT
    to_regclass('job') IS NOT NULL AS is_migrated,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS is_sharded
\gset

\if :is_migrated

-- What the builder may ---------------------------------------------------------------------------

-- Tables and no views; the rules of retention are the janitor's.
SELECT format('GRANT INSERT ON %I TO %I', c.relname, :'builder')
FROM pg_class AS c
WHERE
    c.relnamespace = to_regnamespace(quote_ident(:'schema'))
    AND c.relkind = 'r'
    AND c.relname <> 'release_withdrawal'
    AND c.relname !~ '^(_yoyo|retention)_'
ORDER BY c.relname
\gexec

ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
GRANT INSERT ON TABLES TO :"builder";

GRANT UPDATE (
    state, finished_at, heartbeat_at, container_hash, log, log_pieces, log_size, exit_code, reason,
    failure, failure_rule, measurements, swept_by
) ON job TO :"builder";
-- The end of a job folds its chunks into job.log.
GRANT DELETE ON job_log_chunk TO :"builder";

-- What the janitor may ---------------------------------------------------------------------------

-- What was released stays, and so does the record of it. In retention_rule it writes what goes, and in
-- retention_walk how far its walks came.
SELECT
    format(
        'GRANT %s ON %I TO %I',
        CASE WHEN c.relname LIKE 'retention\_%' THEN 'INSERT, UPDATE, DELETE' ELSE 'DELETE' END,
        c.relname,
        :'janitor'
    )
FROM pg_class AS c
WHERE
    c.relnamespace = to_regnamespace(quote_ident(:'schema'))
    AND c.relkind = 'r'
    AND c.relname NOT IN ('release', 'release_store', 'release_withdrawal')
    AND c.relname !~ '^_yoyo_'
ORDER BY c.relname
\gexec

ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
GRANT DELETE ON TABLES TO :"janitor";

-- started_at is the column that builders may not write: job/refresh_failures sets it, so that a builder gets an
-- error where the policy would silently leave it no ended job.
GRANT UPDATE (
    state, started_at, finished_at, log, log_pieces, log_size, failure, failure_rule, swept_by
) ON job TO :"janitor";
GRANT INSERT ON release_withdrawal TO :"janitor";
-- FOR UPDATE, of what is about to go, needs UPDATE on some column. uuid is one that foreign keys hold fast.
GRANT UPDATE (uuid) ON artifact, submit TO :"janitor";

-- Rows --------------------------------------------------------------------------------------------

-- The schema has the policies that hold for everybody. One of these that is there already stays: whoever
-- changes what one says changes its name, which ends in the role's.
SELECT
    format('DROP POLICY IF EXISTS %I ON %I', w.name, w.place),
    format('CREATE POLICY %I ON %I %s', w.name, w.place, format(w.rule, w.role))
FROM (
    VALUES
    ('job_update_by_' || :'janitor', 'job', :'janitor', 'FOR UPDATE TO %I USING (true)'),
    ('job_delete_by_' || :'janitor', 'job', :'janitor', 'FOR DELETE TO %I USING (true)'),
    (
        'job_log_chunk_insert_by_' || :'builder', 'job_log_chunk', :'builder',
        'AS RESTRICTIVE FOR INSERT TO %I WITH CHECK (EXISTS ('
        'SELECT FROM job AS j WHERE j.uuid = job_uuid AND j.state = ''running''))'
    ),
    -- A log that is too long for job.log, and has no pieces there, stays in its chunks.
    (
        'job_log_chunk_delete_by_' || :'builder', 'job_log_chunk', :'builder',
        'AS RESTRICTIVE FOR DELETE TO %I USING ((EXISTS ('
        'SELECT FROM job AS j WHERE j.uuid = job_uuid '
        'AND (j.state = ''running'' OR j.log_pieces IS NOT NULL)))'
        -- Whoever is both a builder and a janitor removes logs, too.
        ' OR pg_has_role(current_user, ' || replace(quote_literal(:'janitor'), '%', '%%') || ', ''USAGE''))'
    )
) AS v (full_name, place, role, rule)
CROSS JOIN LATERAL (SELECT v.full_name::name AS name, v.place, v.role, v.rule) AS w
WHERE
    NOT (:'is_sharded'::boolean AND w.rule LIKE '%EXISTS%')
    AND NOT EXISTS (
        SELECT FROM pg_policy AS p
        WHERE
            p.polname = w.name
            AND p.polrelid = to_regclass(w.place)
            AND p.polroles = ARRAY[to_regrole(quote_ident(w.role))::oid]
    )
ORDER BY w.name
\gexec

\else
\warn 'There are no tables yet: run this once more after the first migrate apply.'
\endif

COMMIT;
