"""The schema: the migrations lead to what schema.sql says, and it holds what it promises."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import Postgres
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors, sql
from psycopg.types.json import Jsonb
from samples import TIME, buildplan, create, fingerprint, finish, sha256, start, tree

from butido_store import Statement, Store, artifact, job, release, uuid7
from butido_store._query import directory, query
from butido_store.admin.migrate import ZERO, Migrator, shipped

Connection = psycopg.Connection[tuple[object, ...]]
Dump = Callable[[str], str]

ON_A_CONNECTION = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\\'x0é:,"), max_size=40
)


@pytest.fixture
def dump(postgres: Postgres, schema: str) -> Dump:
    """Dump the schema without what yoyo made and what changes with each run."""

    def dump(dsn: str) -> str:
        quoted = '"' + schema.replace('"', '""') + '"'
        done = subprocess.run(
            [
                *(postgres.bindir / "pg_dump", "--schema-only", "--no-owner", f"--schema={quoted}"),
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
            *(postgres.bindir / "psql", "-Xq", "-v", "ON_ERROR_STOP=1"),
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


def fill(dsn: str, schema: str) -> None:
    """Put a row into every table."""
    with Store.connect(dsn, schema=schema) as store:
        submit, done, running, act = uuid7(), uuid7(), uuid7(), uuid7()
        source = store.run(artifact.register("src", sha256=sha256("src"), size=3))
        store.run(create(submit))
        store.run(start(done, submit, inputs=[source.uuid]))
        store.run(finish(done, "out"))
        store.run(start(running, submit))
        store.run(job.append_log(running, seq=0, data="so far"))
        said: dict[str, Any] = {"store": "stable", "actor": "somebody", "timestamp": TIME}
        store.run(release.create(act, artifacts=[source.uuid], **said))
        store.run(release.withdraw(artifact=source.uuid, reason="a mistake", **said))


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
        "-- Phase:     pre (a test)\n-- Locks:     all\n"
        "-- Duration:  instant\n-- Rollback:  lossless\n\n"
        "SET LOCAL lock_timeout = '5s';\n"
        + "".join(
            f"ALTER TABLE {name} ADD COLUMN note text NOT NULL DEFAULT 'new';\n" for name in before
        ),
        encoding="utf-8",
    )
    (added / "9999.sample.rollback.sql").write_text(
        "-- Undo it.\n\nSET LOCAL lock_timeout = '5s';\n"
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


# Constraints ------------------------------------------------------------------------------------


@pytest.fixture
def row(connection: Connection, dsn: str, schema: str) -> Iterator[Connection]:
    """A connection in a transaction that is undone, to a database with a row in every table."""
    fill(dsn, schema)
    with connection.transaction(force_rollback=True):
        yield connection


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        # State, end and log of a job go together.
        ("UPDATE job SET state = 'done' WHERE state = 'success'", "job_state_check"),
        ("UPDATE job SET state = '' WHERE state = 'success'", "job_state_check"),
        ("UPDATE job SET finished_at = NULL WHERE state = 'success'", "job_finished_at_check"),
        ("UPDATE job SET finished_at = now() WHERE state = 'running'", "job_finished_at_check"),
        (
            "UPDATE job SET state = 'lost', log = '' WHERE state = 'running'",
            "job_finished_at_check",
        ),
        ("UPDATE job SET log = NULL WHERE state = 'success'", "job_log_check"),
        ("UPDATE job SET log = '' WHERE state = 'running'", "job_log_check"),
        ("UPDATE job SET fingerprint = '\\x00'", "job_fingerprint_check"),
        ("UPDATE job SET container_hash = ''", "job_container_hash_check"),
        ("UPDATE job_log_chunk SET seq = -1", "job_log_chunk_seq_check"),
        # Content of artifacts
        ("UPDATE artifact SET sha256 = decode(repeat('00', 31), 'hex')", "artifact_sha256_check"),
        ("UPDATE artifact SET sha256 = decode(repeat('00', 33), 'hex')", "artifact_sha256_check"),
        ("UPDATE artifact SET size = -1", "artifact_size_check"),
        ("UPDATE artifact SET path = ''", "artifact_path_check"),
        # Shared values
        ("INSERT INTO envvar (name, value) VALUES ('A=B', '')", "envvar_name_check"),
        ("INSERT INTO envvar (name, value) VALUES ('=', '')", "envvar_name_check"),
        ("INSERT INTO envvar (name, value) VALUES ('', '')", "envvar_name_check"),
        ("INSERT INTO envvar (name, value) VALUES (repeat('a', 256), '')", "envvar_name_check"),
        ("INSERT INTO git_hash (hash) VALUES ('c0ffee')", "git_hash_hash_check"),
        ("INSERT INTO git_hash (hash) VALUES (repeat('A', 40))", "git_hash_hash_check"),
        ("INSERT INTO git_hash (hash) VALUES (repeat('a', 40) || chr(10))", "git_hash_hash_check"),
        ("INSERT INTO git_hash (hash) VALUES (repeat('a', 63))", "git_hash_hash_check"),
        ("INSERT INTO package (name, version) VALUES ('', '1')", "package_name_check"),
        ("INSERT INTO package (name, version) VALUES ('a', '')", "package_version_check"),
        (
            "INSERT INTO package (name, version) VALUES (repeat('a', 256), '1')",
            "package_name_check",
        ),
        ("INSERT INTO image (name) VALUES ('')", "image_name_check"),
        ("INSERT INTO image (name) VALUES (repeat('a', 513))", "image_name_check"),
        ("INSERT INTO endpoint (name) VALUES ('')", "endpoint_name_check"),
        # What comes once
        (
            "INSERT INTO envvar (name, value) SELECT name, value FROM envvar",
            "envvar_name_value_sha2",
        ),
        ("INSERT INTO image (name) SELECT name FROM image", "image_name_key"),
        (
            "INSERT INTO artifact (uuid, path, sha256, size)"
            " SELECT gen_random_uuid(), path, sha256, 0 FROM artifact WHERE job_uuid IS NULL",
            "artifact_path_sha256_sha256_idx",
        ),
        (
            "INSERT INTO artifact (uuid, job_uuid, path, sha256, size)"
            " SELECT gen_random_uuid(), job_uuid, path, sha256(''), 0 FROM artifact",
            "artifact_job_uuid_path_sha256_key",
        ),
        # What others refer to
        ("DELETE FROM submit", "_submit_uuid_fkey"),
        ("DELETE FROM job", "_job_uuid_fkey"),
        ("DELETE FROM artifact", "_artifact_uuid_fkey"),
        ("DELETE FROM envvar", "_envvar_id_fkey"),
        ("DELETE FROM image", "_image_id_fkey"),
        ("DELETE FROM package", "_package_id_fkey"),
        ("DELETE FROM endpoint", "_endpoint_id_fkey"),
        ("DELETE FROM git_hash", "_repo_hash_id_fkey"),
    ],
)
def test_what_must_not_be_is_refused(row: Connection, statement: str, constraint: str) -> None:
    with pytest.raises(errors.IntegrityError) as caught:
        row.execute(statement.encode())
    assert constraint in (caught.value.diag.constraint_name or "")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO envvar (name, value) SELECT name, value || '=' FROM envvar",
        "INSERT INTO envvar (name, value) VALUES (repeat('ü', 255), repeat('é', 100000))",
        "INSERT INTO git_hash (hash) VALUES (repeat('a', 64))",
        "INSERT INTO image (name) VALUES (repeat('🐘', 512))",
        "INSERT INTO package (name, version) VALUES (repeat('🐘', 255), repeat('🐘', 255))",
        "UPDATE artifact SET path = repeat('🐘', 100000), size = 9223372036854775807",
        # The same path with other content, from outside; and the same content at another path.
        "INSERT INTO artifact (uuid, path, sha256, size)"
        " SELECT gen_random_uuid(), path, sha256(''), 0 FROM artifact",
        "INSERT INTO artifact (uuid, job_uuid, path, sha256, size)"
        " SELECT gen_random_uuid(), job_uuid, path || '2', sha256, 0 FROM artifact",
        "UPDATE job SET state = 'lost' WHERE state = 'success'",
    ],
)
def test_what_may_be_is_taken(row: Connection, statement: str) -> None:
    assert row.execute(statement.encode()).rowcount > 0


NODE: dict[str, object] = {"name": "a", "version": "1", "dependencies": []}


def a_tree(**changes: object) -> dict[str, object]:
    return {"root": 0, "nodes": [NODE | changes]}


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        (a_tree(), True),
        (a_tree(dependencies=[0]), True),
        (a_tree(more={"x": [1]}) | {"more": None}, True),
        (tree("a", "b", "c"), True),
        ({"root": 1, "nodes": [NODE, NODE]}, True),
        ({"root": 0, "nodes": []}, False),
        ({"root": 1, "nodes": [NODE]}, False),
        ({"root": -1, "nodes": [NODE]}, False),
        ({"root": 0.5, "nodes": [NODE]}, False),
        ({"root": "0", "nodes": [NODE]}, False),
        ({"root": None, "nodes": [NODE]}, False),
        ({"root": [0], "nodes": [NODE]}, False),
        ({"nodes": [NODE]}, False),
        ({"root": 0}, False),
        ({"root": 0, "nodes": NODE}, False),
        ({"root": 0, "nodes": None}, False),
        ({"root": 0, "nodes": [NODE, 1]}, False),
        ({"root": 0, "nodes": [[NODE]]}, False),
        (a_tree(name=1), False),
        (a_tree(name=None), False),
        (a_tree(version=1), False),
        (a_tree(dependencies=None), False),
        (a_tree(dependencies={}), False),
        (a_tree(dependencies=[1]), False),
        (a_tree(dependencies=[-1]), False),
        (a_tree(dependencies=[0.5]), False),
        (a_tree(dependencies=["0"]), False),
        (a_tree(dependencies=[[0]]), False),
        ({"root": 0, "nodes": [{"name": "a", "version": "1"}]}, False),
        ({"root": 0, "nodes": [{"name": "a", "dependencies": []}]}, False),
        ({"root": 0, "nodes": [{"version": "1", "dependencies": []}]}, False),
        ([], False),
        ({}, False),
        (None, False),
        ("", False),
    ],
)
def test_a_tree_has_its_outline(row: Connection, document: object, valid: bool) -> None:
    _try(row, "tree", document, valid)


PLANNED: dict[str, object] = {"uuid": str(UUID(int=1)), "package": "a", "version": "1", "needs": []}


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({"jobs": []}, True),
        ({"jobs": [PLANNED]}, True),
        ({"jobs": [PLANNED | {"needs": [str(UUID(int=2))], "more": 1}], "more": 1}, True),
        (buildplan(uuid7(), uuid7()), True),
        ({}, False),
        (None, False),
        ([PLANNED], False),
        ({"jobs": None}, False),
        ({"jobs": PLANNED}, False),
        ({"jobs": [PLANNED, 1]}, False),
        ({"jobs": [[PLANNED]]}, False),
        ({"jobs": [PLANNED | {"uuid": 1}]}, False),
        ({"jobs": [PLANNED | {"uuid": "1"}]}, False),
        ({"jobs": [PLANNED | {"uuid": str(UUID(int=1)) + "0"}]}, False),
        ({"jobs": [PLANNED | {"uuid": str(UUID(int=1)) + "\n"}]}, False),
        ({"jobs": [PLANNED | {"package": 1}]}, False),
        ({"jobs": [PLANNED | {"version": None}]}, False),
        ({"jobs": [PLANNED | {"needs": None}]}, False),
        ({"jobs": [PLANNED | {"needs": "x"}]}, False),
        ({"jobs": [PLANNED | {"needs": [1]}]}, False),
        ({"jobs": [PLANNED | {"needs": [[str(UUID(int=1))]]}]}, False),
        *(({"jobs": [{k: v for k, v in PLANNED.items() if k != key}]}, False) for key in PLANNED),
    ],
)
def test_a_buildplan_has_its_outline(row: Connection, document: object, valid: bool) -> None:
    _try(row, "buildplan", document, valid)


def _try(row: Connection, column: str, document: object, valid: bool) -> None:
    """Store a document, or see it refused."""
    statement = sql.SQL("UPDATE submit SET {} = {}::jsonb").format(
        sql.Identifier(column), json.dumps(document)
    )
    if valid:
        assert row.execute(statement).rowcount == 1
    else:
        with pytest.raises(errors.CheckViolation) as caught:
            row.execute(statement)
        assert caught.value.diag.constraint_name == f"submit_{column}_check"


# Functions --------------------------------------------------------------------------------------


@given(text=TEXTS)
@ON_A_CONNECTION
def test_text_sha256_is_that_of_the_utf8(text: str, connection: Connection) -> None:
    found = connection.execute("SELECT text_sha256(%s)", [text]).fetchone()
    assert found == (hashlib.sha256(text.encode()).digest(),)


@given(
    texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    env=st.dictionaries(TEXTS, TEXTS, max_size=5),
    inputs=st.lists(
        st.tuples(TEXTS, st.sampled_from([b"", b"a", b"\xff"]).map(lambda b: b.ljust(32, b"\0"))),
        max_size=5,
    ),
)
@ON_A_CONNECTION
def test_job_fingerprint_is_what_it_says(
    texts: tuple[str, str, str, str],
    env: dict[str, str],
    inputs: list[tuple[str, bytes]],
    connection: Connection,
) -> None:
    files = [f"{digest.hex()}  {path}" for path, digest in inputs]
    found = connection.execute(
        "SELECT job_fingerprint(%s, %s, %s, %s, environment_sha256(%s), %s::text[])",
        [*texts, Jsonb(env), files],
    ).fetchone()
    assert found == (fingerprint(*texts, env, inputs),)


@pytest.mark.parametrize("environment", ["null", "[]", '"A"', '{"A": null}', '{"A": 1}'])
def test_what_is_no_environment_is_not_interned(connection: Connection, environment: str) -> None:
    text, _ = Statement(query("environment/intern"), {"environments": []}, list).rendered()
    with pytest.raises((errors.NotNullViolation, errors.InvalidParameterValue)):
        psycopg.RawCursor(connection).execute(text, [[environment]])


def test_a_tree_of_60000_packages_is_found_by_any_of_them(
    dsn: str, schema: str, connection: Connection
) -> None:
    size = 60_000
    # Each needs the next ten: as a nested document this would have no end.
    nodes = [
        {
            "name": f"package-{place}",
            "version": f"{place}.0",
            "dependencies": [*range(place + 1, min(place + 11, size))],
        }
        for place in range(size)
    ]
    large = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(large, tree={"root": 0, "nodes": nodes}))
        for _ in range(3):
            store.run(create(uuid7()))
    search = "SELECT uuid FROM submit WHERE tree_packages(tree) @> ARRAY[%s]"
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(f"EXPLAIN {search}".encode(), ["package-59999 59999.0"]).fetchall()
    assert "submit_tree_packages_idx" in "\n".join(str(line) for (line,) in plan)
    for wanted in ("package-59999 59999.0", "package-30000", "package-0"):
        assert connection.execute(search.encode(), [wanted]).fetchall() == [(large,)]
    for unwanted in ("package-60000", "package-59999 1.0", "59999.0", "package"):
        assert connection.execute(search.encode(), [unwanted]).fetchall() == []


def test_a_tree_with_the_longest_names_is_found(row: Connection) -> None:
    name, version = "🐘" * 255, "🐁" * 255
    row.execute(
        "UPDATE submit SET tree = %s::jsonb",
        [json.dumps(a_tree(name=name, version=version), ensure_ascii=False)],
    )
    for wanted in (name, f"{name} {version}"):
        assert row.execute(
            "SELECT count(*) FROM submit WHERE tree_packages(tree) @> ARRAY[%s]", [wanted]
        ).fetchone() == (1,)


def test_the_log_of_a_job_is_both_its_parts(row: Connection) -> None:
    assert row.execute("SELECT job_log(uuid) FROM job ORDER BY state").fetchall() == [
        ("so far",),
        ("",),
    ]
    row.execute(
        "INSERT INTO job_log_chunk SELECT uuid, seq, seq || ';' FROM job, (VALUES (10), (9), (2))"
        " AS t (seq) WHERE state = 'success'"
    )
    row.execute("UPDATE job SET log = 'first;' WHERE state = 'success'")
    assert row.execute("SELECT job_log(uuid) FROM job WHERE state = 'success'").fetchone() == (
        "first;2;9;10;",
    )
    assert row.execute("SELECT job_log(gen_random_uuid())").fetchone() == (None,)


def test_the_views_count_and_name(row: Connection) -> None:
    assert row.execute(
        "SELECT package, version, image, packages_in_tree, jobs_planned, jobs, running, success,"
        " error, lost, duration FROM submit_overview"
    ).fetchall() == [("zlib", "1.3", "debian:12", 2, 0, 2, 1, 1, 0, 0, timedelta(seconds=60))]
    assert row.execute(
        "SELECT state, package, endpoint, duration, envs, inputs, outputs FROM job_overview"
        " ORDER BY state"
    ).fetchall() == [
        ("running", "zlib", "builder-1", None, 2, 0, 0),
        ("success", "zlib", "builder-1", timedelta(seconds=59), 2, 1, 1),
    ]
    assert row.execute(
        "SELECT path, sha256, job_state, package, used_by FROM artifact_overview ORDER BY path"
    ).fetchall() == [
        ("out", sha256("out").hex(), "success", "zlib", 0),
        ("src", sha256("src").hex(), None, None, 1),
    ]
