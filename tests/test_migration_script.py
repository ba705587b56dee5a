"""`migrate sql`: a psql script that does what the migrator does, where it comes next."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from conftest import Postgres
from migrating import (
    ADVISORY_LOCKS,
    Directory,
    exists,
    hold_lock,
    index_is_valid,
    snapshot,
    states,
    value,
)
from psycopg import sql
from shell import Run

from butido_store.admin import script
from butido_store.admin.migrate import ZERO, Migrator, shipped
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]
Psql = Callable[..., subprocess.CompletedProcess[str]]

RECORD = "SELECT migration_hash, migration_id, sha256, phase FROM {0}._yoyo_migration ORDER BY 2"


SESSIONS = "pg_stat_activity WHERE application_name = 'psql' AND datname = current_database()"


@pytest.fixture
def psql(postgres: Postgres, database: Connection, database_dsn: str, tmp_path: Path) -> Psql:
    """Run a script on the test's empty database."""

    def psql(text: str, *options: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "script.sql"
        file.write_text(text, encoding="utf-8")
        command = [postgres.psql, "-X", "-d", database_dsn, *options, "-f", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        # The server ends the session, and lets go of its locks, after psql has left.
        while value(database, f"SELECT count(*) FROM {SESSIONS}"):
            pass
        return done

    return psql


@pytest.fixture
def dumped(postgres: Postgres, database_dsn: str) -> Callable[[str], list[str]]:
    """Dump what is in a schema, without its name."""

    def dumped(schema: str) -> list[str]:
        command = [postgres.pg_dump, "--schema-only", f"--schema={schema}", "-d", database_dsn]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # A guard of newer versions is another one in each dump.
        lines = [line for line in text.splitlines() if not line.startswith("\\")]
        return [line.replace(schema, "…") for line in lines]

    return dumped


def test_the_migrator_sees_what_a_script_applied(
    run: Run, psql: Psql, database: Connection, dumped: Callable[[str], list[str]]
) -> None:
    written = run("--dsn", "host=/nowhere", "--schema", "byhand", "migrate", "sql")
    assert (written.returncode, written.stderr) == (0, "")
    done = psql(written.stdout)
    ids = [file.id for file in shipped()]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"applied {id_}\n" for id_ in ids)
    byhand, usual = Migrator(database, schema="byhand"), Migrator(database, schema="usual")
    assert byhand.apply() == []
    assert usual.apply() == ids
    assert dumped("byhand") == dumped("usual")
    for one, other in zip(byhand.status(), usual.status(), strict=True):
        assert (one.id, one.state, one.phase) == (other.id, "applied", other.phase)
        assert one.applied_at
        assert one.duration
    records = [
        database.execute(RECORD.format(name).encode()).fetchall() for name in ("byhand", "usual")
    ]
    assert records[0] == records[1]
    assert value(database, f"SELECT count(*) FROM {ADVISORY_LOCKS}") == 0
    assert byhand.rollback(to=ZERO) == ids[::-1]


def test_a_script_goes_on_from_a_state(
    psql: Psql, database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.table("0003.nut", "nut", phase="post")
    one = script.write(directory=directory.path, to="0001.fruit")
    rest = script.write(directory=directory.path, start="0001.fruit")
    too_early = psql(rest)
    assert too_early.returncode == 3
    assert "does not come next here: 0001.fruit is not applied" in too_early.stderr
    assert snapshot(database) == [("public", None, None)]
    assert psql(one).stdout == "applied 0001.fruit\n"
    # What an attempt that was cut off left is no obstacle.
    database.execute("CREATE INDEX fruit_name_key ON butido.fruit (name)")
    assert psql(rest).stdout == "applied 0002.index\napplied 0003.nut\n"
    assert index_is_valid(database, "fruit_name_key")
    migrator = Migrator(database, directory=directory.path)
    assert migrator.apply() == []
    assert migrator.rollback(to="0001.fruit") == ["0003.nut", "0002.index"]


def test_a_script_refuses_to_run_where_it_does_not_come_next(
    psql: Psql, database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0002.nut", "nut")
    everything = script.write(directory=directory.path)
    rest = script.write(directory=directory.path, start="0001.fruit")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply(to="0001.fruit")
    before = snapshot(database)
    again = psql(everything)
    assert (again.returncode, again.stdout) == (3, "")
    assert "does not come next here: 0001.fruit is applied\n" in again.stderr
    database.execute("UPDATE butido._yoyo_migration SET sha256 = sha256('')")
    edited = psql(rest)
    assert edited.returncode == 3
    assert "0001.fruit is not the file that was applied" in edited.stderr
    assert snapshot(database) == before
    hold_lock(database)
    busy = psql(everything)
    assert busy.returncode == 3
    assert "another migrator is at work" in busy.stderr


def test_a_script_stops_at_the_first_error(
    psql: Psql, database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.bad", "CREATE TABLE nut (); SELECT nonsense;", "DROP TABLE nut;")
    directory.table("0003.berry", "berry")
    done = psql(script.write(directory=directory.path))
    assert (done.returncode, done.stdout) == (3, "applied 0001.fruit\n")
    assert "nonsense" in done.stderr
    assert not exists(database, "nut")
    migrator = Migrator(database, directory=directory.path)
    assert list(states(migrator).values()) == ["applied", "pending", "pending"]
    directory.table("0002.bad", "nut")
    done = psql(script.write(directory=directory.path, start="0001.fruit"))
    assert done.stdout == "applied 0002.bad\napplied 0003.berry\n"


@pytest.mark.parametrize("schema", ["Butido Store", "a'b", 'a"b', "ü\\", "a\nb", ":n"])
def test_psql_sends_what_the_file_says(
    psql: Psql, database: Connection, directory: Directory, schema: str
) -> None:
    directory.add(
        "0001.t",
        "CREATE TABLE t (a) AS SELECT (ARRAY[1, 2, 3])[2:n] FROM (SELECT 3 AS n) AS s; -- it's :n\n"
        "COMMENT ON COLUMN t.a IS $$:'n'$$;\n"
        "CREATE FUNCTION two() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END;"
        " END;\nCOMMENT ON TABLE t IS ':n' -- no semicolon",
        "DROP TABLE t; DROP FUNCTION two();",
    )
    done = psql(script.write(schema=schema, directory=directory.path), "-v", "n=1")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "applied 0001.t\n")
    migrator = Migrator(database, schema=schema, directory=directory.path)
    assert states(migrator) == {"0001.t": "applied"}
    row = database.execute(
        "SELECT obj_description(c.oid), col_description(c.oid, 1) FROM pg_class AS c"
        " JOIN pg_namespace AS n ON n.oid = relnamespace WHERE relname = 't' AND nspname = %s",
        [schema],
    ).fetchone()
    assert row == (":n", ":'n'")
    kept = sql.SQL("SELECT a FROM {}").format(sql.Identifier(schema, "t"))
    assert database.execute(kept).fetchone() == ([2, 3],)
    assert migrator.rollback(to=ZERO) == ["0001.t"]


def test_what_no_script_can_be_of_is_refused(run: Run, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    with pytest.raises(MigrationError, match=r"no migration after 0001\.fruit"):
        script.write(directory=directory.path, start="0001.fruit")
    with pytest.raises(MigrationError, match="no migration '0002'"):
        script.write(directory=directory.path, to="0002")
    with pytest.raises(MigrationError, match="which 'public' cannot be"):
        script.write(schema="public")
    assert "'nothing'" in run("migrate", "sql", "--from", "nothing").stderr
