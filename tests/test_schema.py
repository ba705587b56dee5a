"""The schema: the migrations lead to what schema.sql says, and everything in it is explained."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Postgres
from psycopg import sql
from rows import fill

from butido_store._query import directory
from butido_store.admin.migrate import ZERO, Migrator, shipped

Connection = psycopg.Connection[tuple[object, ...]]
Dump = Callable[[str], str]


@pytest.fixture
def dump(postgres: Postgres, schema: str) -> Dump:
    """Dump the schema without what yoyo made and what changes with each run."""

    def dump(dsn: str) -> str:
        quoted = '"' + schema.replace('"', '""') + '"'
        done = subprocess.run(
            [
                *(postgres.pg_dump, "--schema-only", "--no-owner", f"--schema={quoted}"),
                *("--exclude-table=*._yoyo_*", "--exclude-table=*.yoyo_*", dsn),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        # psql's protection against dumps from servers that are not trusted is a random word.
        lines = [
            line
            for line in done.stdout.splitlines()
            if line.strip() and not line.startswith(("\\restrict", "\\unrestrict", "--"))
        ]
        assert len(lines) > 2
        return "\n".join(lines)

    return dump


@pytest.fixture
def migrator(clone_dsn: str, schema: str) -> Iterator[Migrator]:
    """A migrator of a migrated database."""
    with psycopg.connect(clone_dsn) as connection:
        yield Migrator(connection, schema=schema)


# Migrations -------------------------------------------------------------------------------------


def test_schema_sql_is_where_the_migrations_lead(
    postgres: Postgres, clone_dsn: str, database_dsn: str, schema: str, dump: Dump
) -> None:
    name = sql.Identifier(schema)
    with psycopg.connect(database_dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        with psycopg.connect(clone_dsn) as other:
            comment = other.execute(
                "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s",
                [schema],
            ).fetchone()
        assert comment is not None
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, str(comment[0])))
    subprocess.run(
        [
            *(postgres.psql, "-Xq", "-v", "ON_ERROR_STOP=1"),
            *("-c", sql.SQL("SET search_path TO {}").format(name).as_string()),
            *("-f", directory("schema") / "schema.sql", database_dsn),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PGCLIENTENCODING": "UTF8"},
    )
    assert dump(database_dsn) == dump(clone_dsn)


def test_down_to_zero_and_up_again_is_the_same(
    clone_dsn: str, migrator: Migrator, dump: Dump
) -> None:
    before = dump(clone_dsn)
    ids = [file.id for file in shipped()]
    assert migrator.rollback(to=ZERO) == ids[::-1]
    empty = dump(clone_dsn)
    assert "CREATE TABLE" not in empty
    assert "CREATE FUNCTION" not in empty
    assert migrator.apply() == ids
    assert dump(clone_dsn) == before


def test_each_migration_can_be_undone_and_done_again(
    clone_dsn: str, migrator: Migrator, dump: Dump
) -> None:
    migrator.rollback(to=ZERO)
    before = ZERO
    for file in shipped():
        empty = dump(clone_dsn)
        assert migrator.apply(to=file.id) == [file.id]
        full = dump(clone_dsn)
        assert full != empty
        assert migrator.rollback(to=before) == [file.id]
        assert dump(clone_dsn) == empty
        assert migrator.apply(to=file.id) == [file.id]
        assert dump(clone_dsn) == full
        before = file.id


def tables(connection: Connection, schema: str) -> list[str]:
    """Return the names of the store's own tables."""
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename !~ '^_?yoyo'"
        " ORDER BY 1",
        [schema],
    ).fetchall()
    return [str(name) for (name,) in rows]


def content(dsn: str, schema: str) -> dict[str, list[dict[str, object]]]:
    """Return all rows of all tables, by table."""
    with psycopg.connect(dsn) as connection:
        return {
            name: [
                row
                for (row,) in connection.execute(
                    sql.SQL("SELECT to_jsonb(t) FROM {} AS t ORDER BY to_jsonb(t)::text").format(
                        sql.Identifier(schema, name)
                    )
                ).fetchall()
                if isinstance(row, dict)
            ]
            for name in tables(connection, schema)
        }


def test_a_migration_keeps_every_row(
    clone_dsn: str, schema: str, dump: Dump, tmp_path: Path
) -> None:
    fill(clone_dsn, schema)
    before, dumped = content(clone_dsn, schema), dump(clone_dsn)
    assert all(before.values())
    added = tmp_path / "migrations"
    shutil.copytree(directory("schema") / "migrations", added)
    (added / "9999.sample.sql").write_text(
        "-- Give every table of the sample one more column.\n"
        f"-- depends: {shipped()[-1].id}\n--\n"
        "-- Phase:     pre (a test)\n-- Locks:     none\n"
        "-- Duration:  instant\n-- Rollback:  lossless\n\n"
        "SET LOCAL lock_timeout = '150ms';\n"
        + "".join(
            f"ALTER TABLE {name} ADD COLUMN note text NOT NULL DEFAULT 'new';\n" for name in before
        ),
        encoding="utf-8",
    )
    (added / "9999.sample.rollback.sql").write_text(
        "-- Undo it.\n\nSET LOCAL lock_timeout = '150ms';\n"
        + "".join(f"ALTER TABLE {name} DROP COLUMN note;\n" for name in before),
        encoding="utf-8",
    )
    with psycopg.connect(clone_dsn) as connection:
        migrator = Migrator(connection, schema=schema, directory=added)
        assert migrator.apply() == ["9999.sample"]
        after = content(clone_dsn, schema)
        assert {row.pop("note") for rows in after.values() for row in rows} == {"new"}
        assert after == before
        assert migrator.rollback(to=shipped()[-1].id) == ["9999.sample"]
    assert content(clone_dsn, schema) == before
    assert dump(clone_dsn) == dumped


# Dump and restore -------------------------------------------------------------------------------

# Each definition as the server prints it, by the name of what it defines.
DEFINITIONS = """
SELECT 'constraint ' || k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint AS k
WHERE k.connamespace = to_regnamespace(quote_ident(%(schema)s))
UNION ALL
SELECT 'function ' || p.proname, pg_get_functiondef(p.oid)
FROM pg_proc AS p
WHERE p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
UNION ALL
SELECT 'view ' || c.relname, pg_get_viewdef(c.oid)
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind IN ('v', 'm')
UNION ALL
SELECT 'index ' || c.relname, pg_get_indexdef(c.oid)
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind = 'i'
UNION ALL
SELECT 'column ' || c.relname || '.' || a.attname, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef AS d
JOIN pg_class AS c ON c.oid = d.adrelid
JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
"""


def definitions(dsn: str, schema: str) -> dict[object, object]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(DEFINITIONS, {"schema": schema}).fetchall()
    found: dict[object, object] = dict(rows)
    assert len(found) == len(rows)
    return found


@pytest.fixture
def restored(
    postgres: Postgres, clone_dsn: str, database_dsn: str, tmp_path: Path
) -> Callable[[], str]:
    """Dump the migrated database, restore it, and return the DSN of what came of it."""

    def restored() -> str:
        file = tmp_path / "dump.sql"
        for program, *arguments in (
            ("pg_dump", "--no-owner", f"--file={file}", clone_dsn),
            ("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", str(file), database_dsn),
        ):
            subprocess.run(
                [postgres.bindir / program, *arguments],
                check=True,
                capture_output=True,
                env={**os.environ, "PGCLIENTENCODING": "UTF8"},
            )
        return database_dsn

    return restored


def test_a_dump_and_restore_leaves_every_definition_as_it_was(
    clone_dsn: str, schema: str, restored: Callable[[], str]
) -> None:
    before = definitions(clone_dsn, schema)
    assert {str(name).partition(" ")[0] for name in before} == {
        *("constraint", "function", "view", "index", "column"),
    }
    assert definitions(restored(), schema) == before


def test_a_definition_that_a_restore_changes_is_seen(
    clone_dsn: str, schema: str, restored: Callable[[], str]
) -> None:
    with psycopg.connect(clone_dsn) as connection:
        connection.execute(
            sql.SQL(
                "ALTER TABLE {} ADD CONSTRAINT fruit CHECK (size BETWEEN 0 AND 8 AND path <> '')"
            ).format(sql.Identifier(schema, "artifact"))
        )
    before, after = definitions(clone_dsn, schema), definitions(restored(), schema)
    assert {name for name in before if before[name] != after[name]} == {"constraint fruit"}


# Names and comments -----------------------------------------------------------------------------

# The specification's columns; `uuid` stands for the id of submit, job and artifact.
SPECIFIED = {
    "envvar": {"id", "name", "value"},
    "git_hash": {"id", "hash"},
    "package": {"id", "name", "version"},
    "image": {"id", "name"},
    "submit": {
        *("uuid", "timestamp", "requested_image_id", "requested_package_id", "repo_hash_id"),
        *("tree", "buildplan"),
    },
    "endpoint": {"id", "name"},
    "job": {
        *("uuid", "submit_uuid", "endpoint_id", "package_id", "image_id", "container_hash"),
        *("script", "log", "state", "started_at", "finished_at"),
    },
    "job_input_artifacts": {"job_uuid", "artifact_uuid"},
    # The output of a job is an artifact that names the job.
    "artifact": {"uuid", "path", "job_uuid", "sha256", "size"},
    "jobenvs": {"job_uuid", "envvar_id"},
    "submitenvs": {"submit_uuid", "envvar_id"},
}


def test_everything_specified_is_there_by_name(connection: Connection, schema: str) -> None:
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s",
        [schema],
    ).fetchall():
        found.setdefault(str(table), set()).add(str(column))
    missing = {name: columns - found.get(name, set()) for name, columns in SPECIFIED.items()}
    assert {name: columns for name, columns in missing.items() if columns} == {}


def test_the_documents_are_jsonb_and_times_know_their_zone(
    connection: Connection, schema: str
) -> None:
    types: dict[object, object] = dict(
        connection.execute(
            "SELECT table_name || '.' || column_name, udt_name FROM information_schema.columns"
            " WHERE table_schema = %s",
            [schema],
        ).fetchall()  # type: ignore[arg-type]
    )
    assert (types["submit.tree"], types["submit.buildplan"]) == ("jsonb", "jsonb")
    assert {
        types[name]
        for name in ("submit.timestamp", "job.started_at", "job.finished_at", "job.heartbeat_at")
    } == {"timestamptz"}


# Yoyo's columns are described by yoyo; those that are added to them by us.
UNCOMMENTED = """
SELECT pg_describe_object('pg_class'::regclass, c.oid, 0)
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
    AND c.relkind IN ('r', 'v', 'p', 'm', 'f')
    AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT pg_describe_object('pg_class'::regclass, c.oid, a.attnum)
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
    AND c.relkind IN ('r', 'v', 'p', 'm', 'f')
    AND a.attnum > 0
    AND NOT a.attisdropped
    AND (c.relname !~ '^_?yoyo_' OR a.attname IN ('sha256', 'phase', 'duration'))
    AND col_description(c.oid, a.attnum) IS NULL
UNION ALL
SELECT pg_describe_object('pg_proc'::regclass, p.oid, 0)
FROM pg_proc AS p
WHERE p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
    AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT n.nspname
FROM pg_namespace AS n
WHERE n.nspname = %(schema)s AND obj_description(n.oid, 'pg_namespace') IS NULL
"""


def test_everything_has_a_comment(connection: Connection, schema: str) -> None:
    assert connection.execute(UNCOMMENTED, {"schema": schema}).fetchall() == []
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TABLE bare (a text)")
        connection.execute("CREATE VIEW bare_overview AS SELECT a FROM bare")
        connection.execute("CREATE FUNCTION bare() RETURNS text LANGUAGE sql RETURN 'x'")
        connection.execute("COMMENT ON TABLE _yoyo_log IS NULL")
        assert len(connection.execute(UNCOMMENTED, {"schema": schema}).fetchall()) == 6
