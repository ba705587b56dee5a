"""A rollback that loses records says so first, and needs to be told twice."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from migrating import Directory
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from samples import create, start
from shell import Run

from butido_store import Store, uuid7
from butido_store.admin.migrate import ZERO, Migrator, shipped
from butido_store.errors import MigrationError

IDS = [file.id for file in shipped()][::-1]


@pytest.fixture
def full(clone_dsn: str, schema: str) -> str:
    """DSN of a database with a submit and three jobs."""
    of_submit = uuid7()
    with Store.connect(clone_dsn, schema=schema) as store:
        store.run(create(of_submit), *(start(uuid7(), of_submit) for _ in range(3)))
    return clone_dsn


def jobs(dsn: str, schema: str) -> object:
    with psycopg.connect(dsn) as connection:
        count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, "job"))
        return connection.execute(count).fetchall()


def test_records_are_lost_only_on_request(full: str, schema: str) -> None:
    with psycopg.connect(full, autocommit=True) as connection:
        migrator = Migrator(connection, schema=schema)
        with pytest.raises(MigrationError, match=r"1 submit, 3 jobs, would lose .*--lose-data"):
            migrator.rollback(to=ZERO)
        assert jobs(full, schema) == [(3,)]
        plan = migrator.rollback_plan(to=ZERO)
        assert (plan.undone, plan.lost) == (IDS, {"submit": 1, "job": 3})
        assert jobs(full, schema) == [(3,)]
        assert migrator.rollback_plan(to=IDS[0]).undone == []
        assert migrator.rollback(to=ZERO, lose_data=True) == IDS
        assert migrator.rollback_plan(to=ZERO).lost == {}


def test_who_is_in_the_way_of_counting_is_told(full: str, schema: str) -> None:
    told: list[str] = []
    with (
        psycopg.connect(full, autocommit=True) as connection,
        psycopg.connect(full) as other,
    ):
        other.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(schema, "job"))
        )
        way = rf"in the way: process {other.info.backend_pid} \(.*AccessExclusiveLock on job"
        migrator = Migrator(connection, schema=schema, retry_for=0.5, tell=told.append)
        for ask in (migrator.rollback_plan, migrator.rollback):
            with pytest.raises(MigrationError, match=f"cannot be counted.*{way}"):
                ask(to=ZERO)
        assert told[0].startswith("counting what would be lost: attempt 1 had to wait for a lock")
        other.rollback()
        assert migrator.rollback_plan(to=ZERO).lost == {"submit": 1, "job": 3}


def test_what_loses_no_record_needs_no_flag(full: str, schema: str, tmp_path: Path) -> None:
    directory = Directory(tmp_path / "more")
    for file in shipped():
        for path in (file.path, file.rollback_path):
            directory.raw(path.name, path.read_text("utf-8"))
    directory.add("9998.note", "CREATE TABLE note (id bigint);", "DROP TABLE note;")
    with psycopg.connect(full, autocommit=True) as connection:
        migrator = Migrator(connection, schema=schema, directory=directory.path)
        migrator.apply()
        assert migrator.rollback(to=IDS[0]) == ["9998.note"]


def test_the_shell_names_what_is_at_stake(run: Run, full: str, schema: str) -> None:
    on = ("--dsn", full, "--schema", schema, "migrate", "rollback")
    database = str(conninfo_to_dict(full)["dbname"])
    stake = (schema, database, str(conninfo_to_dict(full)["host"]), "1 submit, 3 jobs", *IDS)
    refused = run(*on, "--yes", "zero")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--lose-data" in refused.stderr
    asked = run(*on, "--lose-data", "zero")
    assert (asked.returncode, asked.stdout.endswith("? [y/N]: ")) == (1, True)
    for said in (refused.stderr, asked.stdout):
        assert [word for word in stake if word not in said] == []
    # Refused at once: nobody has to answer first.
    assert run(*on, "zero").stdout == ""
    assert jobs(full, schema) == [(3,)]
    done = run(*on, "--lose-data", "--yes", "zero")
    assert done.stdout == "".join(f"undone {id_}\n" for id_ in IDS)


def test_line_ends_of_windows_are_named(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "crlf")
    for file in shipped():
        for path in (file.path, file.rollback_path):
            (directory.path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(MigrationError, match=r"CRLF.*core\.autocrlf"):
        shipped(directory.path)


def test_a_checkout_keeps_line_ends(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    files = [str(file.path.relative_to(root)) for file in shipped()]
    done = subprocess.run(
        ["git", "check-attr", "eol", "--", *files, "dev", ".ci/run", "sql/report/jobs.sql"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("not a checkout, or no git")
    assert {line.rpartition(": ")[2] for line in done.stdout.splitlines()} == {"lf"}
