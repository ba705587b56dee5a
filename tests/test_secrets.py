"""A secret of the connection string is in no message, and on no command line."""

import asyncio
import os
import sys
import traceback
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from shell import Run

from butido_store import AsyncStore, Store
from butido_store.errors import ConnectionFailed

pytestmark = pytest.mark.any_server

# Each has `Sup3r` and `S3cret` in its password, where libpq takes a part of that for something
# else, or quotes it.
UNCLEAR = [
    "postgresql://u:Sup3r@S3cret@127.0.0.1:1/db",
    "postgres://u:Sup3r@S3cret@127.0.0.1:1/db?connect_timeout=3",
    "postgresql://u:Sup3r/S3cret@127.0.0.1:1/db",
    "postgresql://u:Sup3r@x/S3cret@127.0.0.1:1/db",
    "postgresql://u:Sup3r?S3cret@127.0.0.1:1/db",
    "postgresql://u:S3cret",
    "postgresql://u:Sup3r%S3cret@127.0.0.1:1/db",
    "postgresql://u:Sup3r/x?S3cret@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1?password=Sup3r@S3cret",
    "host=127.0.0.1 port=1 password=Sup3r S3cret",
    "host=127.0.0.1 port=1 password=Sup3r S3cret=1",
    "host=127.0.0.1 port=1 password='Sup3r'S3cret'",
    "host=127.0.0.1 password=Sup3r port=S3cret",
    "u:Sup3r@S3cret",
    "host=/nowhere password=Sup3rS3cret\udcff",
    "host=/nowhere\0 password=Sup3rS3cret",
]
CLEAR = [
    "postgresql://u:Sup3r%40S3cret@/db?host=/nowhere",
    "postgresql:///db?host=/nowhere&password=Sup3r@S3cret",
    "postgresql://u:Sup3r:S3cret@/db?host=/nowhere",
    "host=/nowhere password='Sup3r@S3cret/:?'",
]


async def _open(dsn: str) -> None:
    await (await AsyncStore.connect(dsn)).close()


@pytest.mark.parametrize("dsn", UNCLEAR + CLEAR)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_part_of_a_password_is_in_a_message(dsn: str, kind: str) -> None:
    with pytest.raises(ConnectionFailed) as raised:
        Store.connect(dsn) if kind == "sync" else asyncio.run(_open(dsn))
    message = str(raised.value)
    # As Python prints it, with what it was raised from.
    printed = "".join(traceback.format_exception(raised.value))
    assert "S3cret" not in printed
    assert "Sup3r" not in printed
    # What is unclear is refused before anybody is asked; what is clear is tried.
    assert ("connection string is" in message) == (dsn in UNCLEAR)
    assert ("/nowhere" in message) == (dsn in CLEAR)


def test_nor_in_what_the_command_line_says(run: Run) -> None:
    done = run("--dsn", UNCLEAR[0], "jobs")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "%40 for @" in done.stderr
    assert "S3cret" not in done.stdout + done.stderr


def test_a_uri_in_place_of_a_databases_name_is_not_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would say that there is no database of this name."""
    named = run("--dsn", f"host=/nowhere dbname={CLEAR[2]}", "jobs")
    monkeypatch.setenv("PGDATABASE", CLEAR[2])
    monkeypatch.setenv("PGHOST", "/nowhere")
    for done in (named, run("jobs"), run("psql", "-c", "SELECT 1")):
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "a URI is given as the name of a database" in done.stderr
        assert "S3cret" not in done.stdout + done.stderr


def test_no_secret_is_on_psqls_command_line(run: Run, dsn: str) -> None:
    secrets = ("password", "sslpassword", "oauth_client_secret", "scram_client_key")
    hidden = make_conninfo(dsn, **dict.fromkeys(secrets, "S3cret="))
    show = r"\! tr '\0' ' ' < /proc/$PPID/cmdline; echo; cat $PGSERVICEFILE; echo $PGPASSWORD"
    # The installed psql need not know each of them; what it says first is that it connected.
    for secret in secrets:
        one = make_conninfo(dsn, **{secret: "S3cret="})
        seen = run("--dsn", one, "psql", "-XAt", "-c", "SELECT 'in'", "-c", show)
        if "syntax error in service file" in seen.stderr:
            assert secret not in ("password", "sslpassword")
            assert "S3cret" not in seen.stderr
            continue
        assert seen.stdout.startswith("in\n"), seen.stderr
        _, line, *rest = seen.stdout.splitlines()
        assert "dbname" in line
        assert "S3cret" not in line
        assert {"S3cret=", f"{secret}=S3cret="} & {*rest}
    assert "S3cret" not in run("--dsn", hidden, "psql", "-c", "SELECT 1").stderr


def test_a_service_file_has_its_secrets_itself(
    run: Run, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text("[here]\napplication_name=x\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    done = run("--dsn", make_conninfo(dsn, service="here", sslpassword="S3cret"), "psql")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "write sslpassword into" in done.stderr


def test_no_secret_is_on_the_demonstrations_command_line(
    run: Run, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python runs this first, also as the builder.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'wheelhouse' in str(sys.orig_argv):\n"
        "    print(sys.orig_argv, file=sys.stderr)\n"
        "    print('told', os.environ['BUTIDO_STORE_DSN'], flush=True)\n"
        "    os._exit(3)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", path)
    secret = make_conninfo(dsn, password="S3cret")
    done = run("--dsn", secret, "--schema", schema, "demo", "--directory", str(tmp_path))
    assert "wheelhouse" in done.stderr
    assert "S3cret" not in done.stderr
    assert "told" in done.stdout
    assert "S3cret" in done.stdout


def test_psql_has_the_options_of_a_service(
    run: Run, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text("[reader]\noptions=-c work_mem=12345kB\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    show = ("psql", "-XAt", "-c", "SELECT current_setting('work_mem')")
    shown = ("-c", "SELECT current_setting('search_path')")
    # Of several places a connection's options come from the first that has some.
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=23456kB")
    named = make_conninfo(dsn, service="reader")
    own = make_conninfo(named, options="-c work_mem=34567kB")
    for one, has in ((named, "12345kB"), (own, "34567kB"), (dsn, "23456kB")):
        done = run("--dsn", one, *show, *shown)
        assert done.stdout.splitlines() == [has, '"butido"'], done.stderr
    monkeypatch.setenv("PGSERVICE", "reader")
    assert run("--dsn", dsn, *show).stdout == "12345kB\n"
    # One that is not there is psql's to refuse.
    unknown = run("--dsn", make_conninfo(dsn, service="nobody"), *show)
    assert unknown.returncode == 2
    assert 'definition of service "nobody" not found' in unknown.stderr
