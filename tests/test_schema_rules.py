"""Rules that keep the schema ready for sharding and readable, held against the catalog.

Each repository's store is one schema, which Citus may move to another node as a whole: nothing in
it may depend on what is outside of it, or need what Citus does not have. The names are
PostgreSQL's own defaults, so that each can be guessed.
"""

import re
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from butido_store.admin.migrate import Migrator, shipped

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class Rule:
    """What must not be, and a query for names of what is so all the same.

    In the query %(schema)s is the schema, and `relations` and `columns` are those in it. What yoyo
    made is looked at too, unless `but_yoyo`: its own tables have its own types.
    """

    name: str
    query: str
    but_yoyo: bool = False


# Yoyo's tables have varchar and timestamp columns and an int4 key (of _yoyo_version, a row for
# each change of yoyo's own). They are created by yoyo, and it reads and writes them as they are.
COMMON = """
WITH relations AS (
    SELECT c.oid, c.relname, c.relkind, c.relispartition
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
        AND NOT (%(but_yoyo)s AND c.relname ~ '^_?yoyo')
),
columns AS (
    SELECT
        r.*, a.attname, a.attnum, a.atttypid, a.attidentity, a.atthasdef, a.attgenerated,
        a.attcompression
    FROM relations AS r
    JOIN pg_attribute AS a ON a.attrelid = r.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped
),
constraints AS (
    SELECT k.*, r.relname, ARRAY(
        SELECT a.attname::text
        FROM unnest(k.conkey) WITH ORDINALITY AS t (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = t.attnum
        ORDER BY t.place
    ) AS names
    FROM pg_constraint AS k
    JOIN relations AS r ON r.oid = k.conrelid
),
functions AS (
    SELECT p.oid, p.proname, p.prosrc, p.prosqlbody, p.proconfig, l.lanname
    FROM pg_proc AS p
    JOIN pg_language AS l ON l.oid = p.prolang
    WHERE p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
),
-- The functions that read tables; what a body needs is known, as it is no text.
reading AS (
    SELECT f.*
    FROM functions AS f
    WHERE EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_proc'::regclass
            AND d.objid = f.oid
            AND d.refclassid = 'pg_class'::regclass
    )
),
-- What belongs to each object of the schema in pg_depend, and the object's name.
members AS (
    SELECT 'pg_class'::regclass AS classid, r.oid AS objid, r.relname::text AS name
    FROM relations AS r
    UNION ALL
    SELECT 'pg_proc'::regclass, f.oid, f.proname FROM functions AS f
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, k.conname FROM constraints AS k
    UNION ALL
    SELECT 'pg_rewrite'::regclass, w.oid, r.relname
    FROM pg_rewrite AS w
    JOIN relations AS r ON r.oid = w.ev_class
    UNION ALL
    SELECT 'pg_attrdef'::regclass, d.oid, r.relname
    FROM pg_attrdef AS d
    JOIN relations AS r ON r.oid = d.adrelid
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, t.typname
    FROM pg_type AS t
    WHERE t.typnamespace = to_regnamespace(quote_ident(%(schema)s))
)
"""

RULES = [
    Rule(
        "no primary key",
        """
        SELECT r.relname FROM relations AS r
        WHERE r.relkind IN ('r', 'p')
            AND NOT EXISTS (
                SELECT FROM constraints AS k WHERE k.conrelid = r.oid AND k.contype = 'p'
            )
        """,
    ),
    Rule(
        "identity not bigint",
        """
        SELECT relname || '.' || attname FROM columns
        WHERE relkind IN ('r', 'p') AND attidentity <> '' AND atttypid <> 'bigint'::regtype
        """,
    ),
    Rule(
        "identity not always",
        """
        SELECT relname || '.' || attname FROM columns
        WHERE relkind IN ('r', 'p') AND attidentity = 'd'
        """,
    ),
    Rule(
        "small key",
        """
        SELECT DISTINCT c.relname || '.' || c.attname
        FROM columns AS c
        JOIN constraints AS k ON k.conrelid = c.oid AND c.attnum = ANY (k.conkey)
        WHERE k.contype IN ('p', 'f', 'u')
            AND c.atttypid IN ('smallint'::regtype, 'integer'::regtype)
        """,
        but_yoyo=True,
    ),
    Rule(
        "sequence",
        """
        SELECT r.relname FROM relations AS r
        WHERE r.relkind = 'S' AND NOT EXISTS (
            SELECT FROM pg_depend AS d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype = 'i'
        )
        """,
    ),
    Rule(
        "trigger",
        """
        SELECT r.relname || '.' || t.tgname FROM relations AS r
        JOIN pg_trigger AS t ON t.tgrelid = r.oid
        WHERE NOT t.tgisinternal
        """,
    ),
    # Citus refuses them.
    Rule(
        "subquery in a policy",
        """
        SELECT r.relname || '.' || p.polname FROM relations AS r
        JOIN pg_policy AS p ON p.polrelid = r.oid
        WHERE concat(p.polqual, p.polwithcheck) LIKE '%%{SUBLINK%%'
        """,
    ),
    Rule(
        "rule",
        """
        SELECT r.relname || '.' || w.rulename FROM relations AS r
        JOIN pg_rewrite AS w ON w.ev_class = r.oid
        WHERE NOT (w.rulename = '_RETURN' AND r.relkind IN ('v', 'm'))
        """,
    ),
    Rule(
        "inheritance",
        """
        SELECT r.relname FROM relations AS r
        WHERE r.relkind IN ('r', 'f') AND NOT r.relispartition
            AND EXISTS (SELECT FROM pg_inherits AS i WHERE r.oid IN (i.inhrelid, i.inhparent))
        """,
    ),
    Rule(
        "partition",
        "SELECT relname FROM relations WHERE relkind = 'p' OR (relispartition AND relkind <> 'i')",
    ),
    Rule("foreign table", "SELECT relname FROM relations WHERE relkind = 'f'"),
    Rule("materialised view", "SELECT relname FROM relations WHERE relkind = 'm'"),
    Rule("deferrable", "SELECT conname FROM constraints WHERE condeferrable"),
    Rule(
        "not valid",
        """
        SELECT conname FROM constraints WHERE NOT convalidated
        UNION ALL
        SELECT r.relname FROM relations AS r
        JOIN pg_index AS i ON i.indexrelid = r.oid
        WHERE NOT i.indisvalid
        """,
    ),
    Rule(
        "outside",
        """
        SELECT DISTINCT m.name || ' needs ' || o.identity
        FROM members AS m
        JOIN pg_depend AS d ON d.classid = m.classid AND d.objid = m.objid
        CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) AS o
        WHERE o.schema NOT IN (quote_ident(%(schema)s), 'pg_catalog')
        """,
    ),
    # What a body that is text needs is looked up when it runs; the catalog does not know it.
    Rule(
        "text body",
        """
        SELECT proname FROM functions
        WHERE lanname NOT IN ('internal', 'c') AND prosqlbody IS NULL
        """,
    ),
    Rule(
        "own search path",
        """
        SELECT proname FROM functions
        WHERE EXISTS (SELECT FROM unnest(proconfig) AS t (setting) WHERE setting ~ '^search_path=')
        """,
    ),
    Rule(
        "reads tables per row",
        """
        SELECT DISTINCT m.name || ' calls ' || f.proname
        FROM reading AS f
        JOIN pg_depend AS called
            ON called.refclassid = 'pg_proc'::regclass AND called.refobjid = f.oid
        JOIN members AS m ON m.classid = called.classid AND m.objid = called.objid
        """,
    ),
    # Citus evaluates a RETURN on the coordinator, where the tables are empty.
    Rule(
        "returns what it reads",
        "SELECT proname FROM reading WHERE pg_get_function_sqlbody(oid) ~ '^\\s*RETURN\\M'",
    ),
    # Citus refuses to send a list without columns on.
    Rule(
        "selects nothing",
        """
        SELECT name
        FROM (
            SELECT relname, pg_get_viewdef(oid) FROM relations WHERE relkind IN ('v', 'm')
            UNION ALL
            SELECT proname, pg_get_function_sqlbody(oid) FROM functions
        ) AS t (name, body)
        WHERE body ~ '\\mSELECT\\s+FROM\\M'
        """,
    ),
    # An index in another order than its server's library sorts in finds nothing.
    Rule(
        "sorted by locale",
        """
        SELECT r.relname || '.' || a.attname
        FROM relations AS r
        JOIN pg_index AS i ON i.indexrelid = r.oid
        JOIN pg_opclass AS o ON o.oid = i.indclass[0]
        JOIN pg_am AS m ON m.oid = o.opcmethod
        CROSS JOIN unnest(i.indcollation) WITH ORDINALITY AS t (collation_oid, place)
        JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = t.place
        WHERE m.amname = 'btree' AND t.collation_oid NOT IN (0, '"C"'::regcollation)
        """,
        but_yoyo=True,
    ),
    # Citus evaluates it on the coordinator, whose clock is another; the writer gives what it means.
    Rule(
        "default",
        """
        SELECT relname || '.' || attname FROM columns
        WHERE atthasdef AND attgenerated = ''
        """,
        but_yoyo=True,
    ),
    # A server without lz4 cannot restore a column that asks for it.
    Rule(
        "compression",
        "SELECT relname || '.' || attname FROM columns WHERE attcompression <> ''",
    ),
    Rule(
        "foreign key without index",
        """
        SELECT k.conname FROM constraints AS k
        WHERE k.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index AS i
            WHERE i.indrelid = k.conrelid
                AND i.indisvalid
                AND i.indpred IS NULL
                AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
        )
        """,
    ),
    # Each statement that writes there would parse it anew, a domain's once in a session.
    Rule(
        "check of one column",
        """
        SELECT conname FROM constraints
        WHERE contype = 'c' AND cardinality(names) = 1
            AND relname IN ('job', 'job_log_chunk', 'artifact', 'job_input_artifacts')
        """,
    ),
    Rule(
        "constraint name",
        """
        SELECT conname FROM constraints
        WHERE coninhcount = 0 AND NOT CASE contype
            WHEN 'p' THEN conname = relname || '_pkey'
            WHEN 'u' THEN conname = relname || '_' || array_to_string(names, '_') || '_key'
            WHEN 'f' THEN conname = relname || '_' || array_to_string(names, '_') || '_fkey'
            WHEN 'x' THEN conname = relname || '_' || array_to_string(names, '_') || '_excl'
            WHEN 'n' THEN conname = relname || '_' || array_to_string(names, '_') || '_not_null'
            -- Of several columns, PostgreSQL names none; the one that it is about says more.
            WHEN 'c' THEN (cardinality(names) <> 1 AND conname = relname || '_check')
                OR conname = ANY (ARRAY(
                    SELECT relname || '_' || name || '_check' FROM unnest(names) AS t (name)
                ))
            ELSE TRUE
        END
        """,
    ),
    Rule(
        "index name",
        # An index has columns too, each called as its part of the default name.
        """
        SELECT r.relname
        FROM relations AS r
        JOIN pg_index AS i ON i.indexrelid = r.oid
        JOIN pg_class AS t ON t.oid = i.indrelid
        WHERE NOT EXISTS (
                SELECT FROM constraints AS k
                WHERE k.conindid = r.oid AND k.contype IN ('p', 'u', 'x')
            )
            AND r.relname <> t.relname || '_' || (
                SELECT string_agg(a.attname, '_' ORDER BY a.attnum)
                FROM pg_attribute AS a
                WHERE a.attrelid = r.oid
            ) || '_idx'
        """,
    ),
    Rule(
        "type",
        """
        SELECT relname || '.' || attname FROM columns
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND atttypid IN (
            'varchar'::regtype, 'char'::regtype, 'timestamp'::regtype, 'timetz'::regtype,
            'json'::regtype, 'varchar[]'::regtype, 'timestamp[]'::regtype, 'json[]'::regtype
        )
        """,
        but_yoyo=True,
    ),
    Rule(
        "in public",
        """
        SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('public')
        UNION ALL
        SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('public')
        UNION ALL
        SELECT t.typname FROM pg_type AS t
        WHERE t.typnamespace = to_regnamespace('public') AND t.typrelid = 0 AND t.typelem = 0
        """,
    ),
]


def violations(connection: Connection, schema: str) -> list[str]:
    """Return what breaks a rule in a schema, as `rule: object`."""
    return [
        f"{rule.name}: {name}"
        for rule in RULES
        for (name,) in connection.execute(
            f"{COMMON} SELECT name FROM ({rule.query}) AS t (name) ORDER BY name".encode(),
            {"schema": schema, "but_yoyo": rule.but_yoyo},
        ).fetchall()
    ]


def test_the_schema_keeps_every_rule(clone_dsn: str, schema: str) -> None:
    with psycopg.connect(clone_dsn) as connection:
        assert violations(connection, schema) == []


KEY = "uuid uuid CONSTRAINT fruit_pkey PRIMARY KEY"

BREACHES: list[tuple[str, set[str]]] = [
    ("CREATE TABLE fruit (name text)", {"no primary key: fruit"}),
    (
        "CREATE TABLE fruit (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
        {"identity not bigint: fruit.id", "small key: fruit.id"},
    ),
    (
        "CREATE TABLE fruit (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY)",
        {"identity not always: fruit.id"},
    ),
    (
        f"CREATE TABLE fruit ({KEY}, n int, CONSTRAINT fruit_n_key UNIQUE (n))",
        {"small key: fruit.n"},
    ),
    (
        "CREATE TABLE fruit (id bigserial PRIMARY KEY)",
        {"sequence: fruit_id_seq", "default: fruit.id"},
    ),
    ("CREATE SEQUENCE fruit_seq", {"sequence: fruit_seq"}),
    (
        "CREATE TRIGGER touch BEFORE UPDATE ON job FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        {"trigger: job.touch"},
    ),
    (
        "CREATE POLICY apple ON job USING (EXISTS (SELECT FROM submit))",
        {"subquery in a policy: job.apple"},
    ),
    ("CREATE RULE quiet AS ON DELETE TO job DO INSTEAD NOTHING", {"rule: job.quiet"}),
    (
        "CREATE RULE quiet AS ON DELETE TO job_overview DO INSTEAD NOTHING",
        {"rule: job_overview.quiet"},
    ),
    (
        f"CREATE TABLE fruit ({KEY}); CREATE TABLE apple (PRIMARY KEY (uuid)) INHERITS (fruit)",
        {"inheritance: apple", "inheritance: fruit"},
    ),
    (
        f"CREATE TABLE fruit ({KEY}) PARTITION BY HASH (uuid);"
        "CREATE TABLE apple PARTITION OF fruit FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        {"partition: apple", "partition: fruit"},
    ),
    (
        "CREATE MATERIALIZED VIEW fruit AS SELECT uuid FROM job",
        {"materialised view: fruit"},
    ),
    (
        f"CREATE TABLE fruit ({KEY}, job_uuid uuid REFERENCES job DEFERRABLE);"
        "CREATE INDEX ON fruit (job_uuid)",
        {"deferrable: fruit_job_uuid_fkey"},
    ),
    (
        f'CREATE TABLE fruit ({KEY}, name text COLLATE "C" UNIQUE DEFERRABLE INITIALLY DEFERRED)',
        {"deferrable: fruit_name_key"},
    ),
    (
        "ALTER TABLE job ADD CONSTRAINT job_script_check CHECK (script <> log) NOT VALID",
        {"not valid: job_script_check"},
    ),
    (
        "ALTER TABLE job ADD CONSTRAINT job_script_check CHECK (script <> 'x')",
        {"check of one column: job_script_check"},
    ),
    # Out of the schema
    (
        "CREATE SCHEMA other; CREATE TABLE other.fruit (uuid uuid PRIMARY KEY);"
        f"CREATE TABLE fruit ({KEY} REFERENCES other.fruit)",
        {
            "outside: fruit_uuid_fkey needs other.fruit.uuid",
            "outside: fruit_uuid_fkey needs other.fruit_pkey",
        },
    ),
    (
        "CREATE SCHEMA other; CREATE TABLE other.fruit (name text);"
        "CREATE VIEW fruit AS SELECT name FROM other.fruit",
        {"outside: fruit needs other.fruit.name"},
    ),
    (
        "CREATE SCHEMA other; CREATE TABLE other.fruit (name text);"
        "CREATE FUNCTION fruit() RETURNS bigint LANGUAGE sql"
        " BEGIN ATOMIC SELECT count(*) FROM other.fruit; END",
        {"outside: fruit needs other.fruit"},
    ),
    (
        "CREATE SCHEMA other; CREATE FUNCTION other.f() RETURNS text LANGUAGE sql RETURN 'x';"
        "ALTER TABLE job ALTER COLUMN script SET DEFAULT other.f()",
        {"outside: job needs other.f()", "default: job.script"},
    ),
    ("ALTER TABLE job ALTER COLUMN started_at SET DEFAULT now()", {"default: job.started_at"}),
    (
        "CREATE SCHEMA other; CREATE FUNCTION other.f() RETURNS text LANGUAGE sql RETURN 'x';"
        "ALTER TABLE job ADD CONSTRAINT job_script_check CHECK (script <> log || other.f())",
        {"outside: job_script_check needs other.f()"},
    ),
    (
        "CREATE SCHEMA other; CREATE DOMAIN other.fruit AS text;"
        "ALTER TABLE job ADD COLUMN fruit other.fruit",
        {"outside: job needs other.fruit"},
    ),
    (
        "CREATE FUNCTION fruit() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM pg_class'",
        {"text body: fruit"},
    ),
    (
        "CREATE FUNCTION fruit() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
        {"text body: fruit"},
    ),
    (
        "CREATE FUNCTION fruit() RETURNS text LANGUAGE sql SET search_path = public RETURN 'x'",
        {"own search path: fruit"},
    ),
    (
        "CREATE VIEW fruit AS SELECT uuid, job_log(uuid) AS log FROM job",
        {"reads tables per row: fruit calls job_log"},
    ),
    (
        "CREATE FUNCTION fruit() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM job)",
        {"returns what it reads: fruit"},
    ),
    (
        "CREATE VIEW fruit AS SELECT uuid FROM job"
        " WHERE EXISTS (SELECT FROM artifact WHERE job_uuid = job.uuid)",
        {"selects nothing: fruit"},
    ),
    (
        "CREATE FUNCTION fruit() RETURNS boolean LANGUAGE sql"
        " BEGIN ATOMIC SELECT EXISTS (SELECT FROM job); END",
        {"selects nothing: fruit"},
    ),
    # Names and indexes
    (
        f"CREATE TABLE fruit ({KEY}, name text, CONSTRAINT fruit_name_key UNIQUE (name))",
        {"sorted by locale: fruit_name_key.name"},
    ),
    (
        'CREATE INDEX ON job (state, lower(script COLLATE "POSIX"))',
        {"sorted by locale: job_state_lower_idx.lower"},
    ),
    (
        "ALTER TABLE job ALTER COLUMN script SET COMPRESSION pglz",
        {"compression: job.script"},
    ),
    (
        f"CREATE TABLE fruit ({KEY}, job_uuid uuid REFERENCES job)",
        {"foreign key without index: fruit_job_uuid_fkey"},
    ),
    (
        f"CREATE TABLE fruit ({KEY}, job_uuid uuid REFERENCES job);"
        "CREATE INDEX ON fruit (uuid, job_uuid);"
        "CREATE INDEX ON fruit (job_uuid) WHERE uuid IS NULL",
        {"foreign key without index: fruit_job_uuid_fkey"},
    ),
    ("CREATE TABLE fruit (uuid uuid CONSTRAINT pk PRIMARY KEY)", {"constraint name: pk"}),
    (
        "ALTER TABLE job ADD CONSTRAINT job_unique UNIQUE (uuid, state)",
        {"constraint name: job_unique"},
    ),
    (
        "ALTER TABLE job ADD CONSTRAINT job_state_uuid_key UNIQUE (uuid, state)",
        {"constraint name: job_state_uuid_key"},
    ),
    (
        "ALTER TABLE job RENAME CONSTRAINT job_submit_uuid_fkey TO job_submit_fkey",
        {"constraint name: job_submit_fkey"},
    ),
    (
        "ALTER TABLE job ADD CONSTRAINT job_state_check2 CHECK (state <> script)",
        {"constraint name: job_state_check2"},
    ),
    (
        "ALTER TABLE job ADD CONSTRAINT job_log_check2 CHECK (state <> log)",
        {"constraint name: job_log_check2"},
    ),
    (
        "ALTER TABLE job ADD CONSTRAINT job_script_check CHECK (state <> log)",
        {"constraint name: job_script_check"},
    ),
    ("CREATE INDEX by_size ON artifact (size)", {"index name: by_size"}),
    ("CREATE INDEX job_script_idx ON job (length(script))", {"index name: job_script_idx"}),
    ("CREATE UNIQUE INDEX job_log_key ON job (length(log))", {"index name: job_log_key"}),
    (
        "ALTER INDEX job_started_at_idx RENAME TO job_started_idx",
        {"index name: job_started_idx"},
    ),
    # Types
    ("ALTER TABLE job ADD COLUMN note varchar(9)", {"type: job.note"}),
    ("ALTER TABLE job ADD COLUMN note char(9)", {"type: job.note"}),
    ("ALTER TABLE job ADD COLUMN note timestamp", {"type: job.note"}),
    ("ALTER TABLE job ADD COLUMN note json", {"type: job.note"}),
    ("CREATE VIEW fruit AS SELECT script::varchar AS v FROM job", {"type: fruit.v"}),
    # Beside the schema
    ("CREATE TABLE public.fruit (name text)", {"in public: fruit"}),
    ("CREATE FUNCTION public.fruit() RETURNS text LANGUAGE sql RETURN 'x'", {"in public: fruit"}),
    ("CREATE TYPE public.fruit AS ENUM ('apple')", {"in public: fruit"}),
    # Yoyo's tables are looked at, except for their types.
    ("ALTER TABLE _yoyo_log DROP CONSTRAINT _yoyo_log_pkey", {"no primary key: _yoyo_log"}),
    ("CREATE INDEX by_id ON _yoyo_log (length(id))", {"index name: by_id"}),
]


@pytest.mark.parametrize(("statements", "expected"), BREACHES)
def test_a_breach_is_found(
    statements: str, expected: set[str], connection: Connection, schema: str
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(statements.encode())
        assert {*violations(connection, schema)} == expected


@pytest.mark.parametrize(
    "statements",
    [
        f"""CREATE TABLE fruit ({KEY}, name text COLLATE "C" UNIQUE, CHECK (name <> ''),"""
        " CHECK (uuid::text <> name))",
        f"CREATE TABLE fruit ({KEY}, a_uuid uuid, b_uuid uuid,"
        " FOREIGN KEY (a_uuid, b_uuid) REFERENCES jobenvs_twin (a, b));"
        "CREATE INDEX ON fruit (b_uuid, a_uuid, uuid)",
        'CREATE INDEX ON job (lower(script COLLATE "C"), state) WHERE log IS NULL',
        "CREATE INDEX ON job (length(script), length(log)) INCLUDE (container_hash)",
        "CREATE FUNCTION fruit() RETURNS bigint LANGUAGE sql"
        " BEGIN ATOMIC SELECT count(*) FROM job; END",
        "CREATE FUNCTION fruit(a text) RETURNS boolean LANGUAGE sql RETURN (SELECT a = 'SELECT 1')",
        "CREATE VIEW fruit AS SELECT text_sha256(o.package) AS sha256 FROM job_overview AS o",
    ],
)
def test_what_keeps_the_rules_is_not_found(
    statements: str, connection: Connection, schema: str
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TABLE jobenvs_twin (a uuid, b uuid, PRIMARY KEY (a, b))")
        connection.execute(statements.encode())
        assert violations(connection, schema) == []


def test_every_rule_is_seen_to_find_something() -> None:
    found = {text.partition(": ")[0] for _, expected in BREACHES for text in expected}
    # A foreign table needs a server that it is on.
    assert found == {rule.name for rule in RULES} - {"foreign table"}


def test_no_body_names_the_schema_that_it_is_in(clone_dsn: str, schema: str) -> None:
    # Beside a store, what names that one's schema is found.
    with psycopg.connect(clone_dsn) as connection:
        Migrator(connection, schema="beside").apply()
        assert violations(connection, "beside") == []
        connection.execute(
            sql.SQL("CREATE VIEW beside.fruit AS SELECT uuid FROM {}").format(
                sql.Identifier(schema, "job")
            )
        )
        assert [text.partition(" needs ")[0] for text in violations(connection, "beside")] == [
            "outside: fruit"
        ]


ADDED_IDENTITY = re.compile(r"ALTER\s+TABLE[^;]*\bADD\b[^;]*\bIDENTITY\b", re.IGNORECASE)


def test_an_identity_is_there_from_the_start() -> None:
    # Citus cannot add one to a distributed table.
    assert ADDED_IDENTITY.search(
        "ALTER TABLE job\n ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY;"
    )
    for file in shipped():
        for path in (file.path, file.rollback_path):
            assert not ADDED_IDENTITY.search(path.read_text(encoding="utf-8")), path
