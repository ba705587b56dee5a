"""The command line: what it does, and that it fails in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo
from samples import create, start
from shell import Run

import butido_store
from butido_store import Store, uuid7
from butido_store._query import directory
from butido_store.cli.main import main

pytestmark = pytest.mark.any_server

ODD = "Odd \\ \"schema\" 'name'"


@pytest.mark.parametrize("schema_", ["butido", ODD])
def test_migrations_up_and_down(run: Run, database_dsn: str, schema_: str) -> None:
    on = ("--dsn", database_dsn, "--schema", schema_, "migrate")
    pending = run(*on, "status")
    assert ("pending" in pending.stdout, pending.returncode) == (True, 0)
    assert run(*on, "apply").stdout == "applied 0001.initial\n"
    assert run(*on, "apply").stdout == "nothing to apply\n"
    assert "applied" in run(*on, "status").stdout
    asked = run(*on, "rollback", "zero")
    assert asked.returncode == 1
    assert "Aborted" in asked.stderr
    assert run(*on, "rollback", "--yes", "zero").stdout == "undone 0001.initial\n"
    assert run(*on, "rollback", "--yes", "zero").stdout == "nothing to undo\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dsn", "nonsense s3cret", "migrate", "apply"], "connection string is not valid"),
        (["--dsn", "host=/nowhere password=s3cret", "migrate", "status"], "No such file"),
        (["--dsn", "host=/nowhere", "--schema", "public", "migrate", "status"], "No such file"),
        (["--dsn", "host=/nowhere", "server", "stop"], "the embedded one; leave it out\n"),
    ],
)
def test_an_error_is_one_line(run: Run, arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stdout + done.stderr


def test_a_schema_of_that_name_is_refused(run: Run, database_dsn: str) -> None:
    done = run("--dsn", database_dsn, "--schema", "public", "migrate", "apply")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "public" in done.stderr


@pytest.mark.parametrize("schema_", ["butido", ODD])
def test_psql_has_the_search_path_set(run: Run, database_dsn: str, schema_: str) -> None:
    on = ("--dsn", database_dsn, "--schema", schema_)
    run(*on, "migrate", "apply")
    with Store.connect(database_dsn, schema=schema_) as store:
        of_submit, one = uuid7(), uuid7()
        store.run(create(of_submit), start(one, of_submit))
    query = Path(__file__).parent.parent / "sql" / "report" / "jobs.sql"
    done = run(*on, "psql", "-XAt", "-v", "package=zlib", "-f", str(query))
    assert (done.returncode, done.stdout.split("|")[0]) == (0, str(one))
    # Its own exit code comes through.
    assert run(*on, "psql", "-X", "-c", "SELECT 1/0").returncode == 1


def test_psqls_failure_is_ours_with_sigchld_ignored(
    run: Run, dsn: str, sigchld_ignored: list[str]
) -> None:
    failed = run("--dsn", dsn, "psql", "-X", "-c", "SELECT 1/0", before=sigchld_ignored)
    assert (failed.returncode, "division by zero" in failed.stderr) == (1, True)


def test_a_password_is_not_on_psqls_command_line(run: Run, database_dsn: str) -> None:
    dsn = make_conninfo(database_dsn, password="s3cret")
    seen = run("--dsn", dsn, "psql", "-XAt", "-c", r"\! tr '\0' ' ' < /proc/$PPID/cmdline")
    assert "dbname" in seen.stdout
    assert "s3cret" not in seen.stdout


def test_the_embedded_server_by_hand(
    run: Run, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    assert run("server", "status").returncode == 3
    started = run("server", "start")
    assert started.returncode == 0, started.stderr
    # Commands come and go, and leave it running.
    assert run("migrate", "apply").stdout == "applied 0001.initial\n"
    status = run("server", "status")
    assert (status.returncode, "running in" in status.stdout) == (0, True)
    dsn = started.stdout.partition("connect with ")[2].strip()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM butido.job").fetchone() == (0,)
    assert run("server", "stop").stdout == "stopped\n"
    assert run("server", "stop").stdout == "not running\n"
    # As one that is about to start, or recovers.
    data = short_directory.resolve() / "data"
    with subprocess.Popen(["sh", "-c", "read line", str(data)], stdin=subprocess.PIPE) as launched:
        (data / "postmaster.pid").write_text(f"{launched.pid}\n{data}\n")
        says = f"it takes no connection yet, process {launched.pid}\n"
        assert says in run("server", "status").stdout
        launched.communicate()


def test_an_installation_that_lacks_a_directory_is_one_line(tmp_path: Path) -> None:
    package = Path(butido_store.__file__).parent
    shutil.copytree(package, tmp_path / "butido_store", ignore=shutil.ignore_patterns("*.pyc"))
    (tmp_path / "sql").symlink_to(directory("sql"))
    done = subprocess.run(
        [sys.executable, "-m", "butido_store", "migrate", "sql"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    says = "Error: butido-store: the installation of butido_store has no directory 'schema'\n"
    assert (done.returncode, done.stderr) == (1, says)


@pytest.mark.parametrize("lacking", ["packaging", "pip"])
def test_the_demonstration_names_its_extra(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)
    done = CliRunner().invoke(main, ["--dsn", "host=/nowhere", "demo"])
    assert done.exit_code == 1
    assert f"needs {lacking}; run: pip install 'butido_store[demo]'" in done.stderr


def test_help_names_every_command(run: Run) -> None:
    for words in ([], ["migrate"], ["server"]):
        assert run(*words, "--help").returncode == 0
    for name in ("demo", "migrate", "psql", "server"):
        assert f"\n  {name} " in run("--help").stdout
