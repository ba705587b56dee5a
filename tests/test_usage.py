"""What the command line cannot do for somebody: one line that says why, by the option's name."""

import asyncio
import os
import sys
from pathlib import Path
from uuid import UUID

import pytest
from samples import create
from shell import Run

from butido_store import AsyncStore, Store, uuid7
from butido_store.errors import InvalidInput

pytestmark = pytest.mark.any_server

BYTES = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["impact"], "one of --artifact, --package, --commit, --image, --endpoint must be given"),
        (["impact", "--limit", "0"], "one of --artifact"),
        (["search-log"], "one of --text, --regex must be given"),
        (["search-log", "--package", "is"], "one of --text, --regex must be given"),
        (["search-log", "--regex", "("], "parentheses () not balanced"),
        (["search-log", "--text", ""], "--text is empty"),
        (["search-log", "--regex", ""], "--regex is empty"),
        (["refresh-failures", "--batch", "9" * 20], "'--batch'"),
        (["prune", "--why", "zz"], "Error: --why: 'zz' is not a uuid"),
        (["release", "stable"], "either --artifact or --submit says"),
        (["release", "stable", "-a", "1", "-S", "1"], "either --artifact or --submit says"),
        (["jobs", "--env", "DEBUG"], "--env must be NAME=VALUE; it has no '='"),
        (["submits", "--label", "a=b", "--label", "KEY"], "--label[1] must be KEY=VALUE"),
        (["submits", "--label", ""], "--label[0] must be KEY=VALUE"),
        (["jobs", "--limit", "9" * 20], "--limit is"),
        (["jobs", "--of-submit", "of_submit"], "--of-submit: 'of_submit' is not a uuid"),
        (["job", "x"], "job: 'x' is not a uuid"),
        (["withdraw", "stable", "1", "--reason", BYTES], "'--reason': it is not UTF-8"),
        (["jobs", "--package", BYTES], "'--package': it is not UTF-8"),
        (["find-artifact", "zlib", "--env", "A=b", "--env", BYTES], "'--env': it is not UTF-8"),
        (["job", BYTES], "JOB': it is not UTF-8"),
        (["migrate", "apply", "--to", BYTES], "'--to': it is not UTF-8"),
        (
            ["--schema", BYTES, "jobs"],
            "'--schema' (env var: 'BUTIDO_STORE_SCHEMA'): it is not UTF-8",
        ),
        (
            ["--schema", BYTES, "migrate", "status"],
            "'--schema' (env var: 'BUTIDO_STORE_SCHEMA'): it is not UTF-8",
        ),
        (
            ["--schema", BYTES, "psql"],
            "'--schema' (env var: 'BUTIDO_STORE_SCHEMA'): it is not UTF-8",
        ),
    ],
)
def test_what_is_no_question_is_a_usage_error(
    run: Run, dsn: str, schema: str, arguments: list[str], says: str
) -> None:
    done = run("--dsn", dsn, "--schema", schema, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("Usage: butido-store")
    assert says in done.stderr.splitlines()[-1]


def test_a_file_may_have_any_name(run: Run, dsn: str, schema: str, tmp_path: Path) -> None:
    (tmp_path / BYTES).write_text("make")
    on = ("--dsn", dsn, "--schema", schema)
    done = run(*on, "find-artifact", "zlib", "--script", f"@{tmp_path / BYTES}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0xff" in run(*on, "psql", "-c", f"SELECT '{BYTES}'").stderr


async def _open(dsn: str, schema: str) -> None:
    await (await AsyncStore.connect(dsn, schema=schema)).close()


@pytest.mark.parametrize("name", ["a\udcff", "a\0"])
def test_a_schemas_name_is_a_text(dsn: str, name: str) -> None:
    with pytest.raises(InvalidInput, match="schema"):
        Store.connect(dsn, schema=name)
    with pytest.raises(InvalidInput, match="schema"):
        asyncio.run(_open(dsn, name))


@pytest.mark.parametrize("name", ["a\tb", "a\nb", " a\v\f\r\\'\" "])
def test_a_schema_may_have_any_name(run: Run, database_dsn: str, name: str) -> None:
    on = ("--dsn", database_dsn, "--schema", name)
    assert run(*on, "migrate", "apply").returncode == 0
    assert run(*on, "jobs").stderr == ""
    found = run(*on, "psql", "-XAt", "-c", "SELECT count(*) FROM job")
    assert (found.stdout, found.stderr) == ("0\n", "")


def test_without_a_name_or_home(
    run: Run, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python runs this first: a user as containers have them, without an entry in /etc/passwd.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pwd\n"
        "def unknown(uid):\n"
        "    raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = unknown\n"
        "os.getuid = os.geteuid = lambda: 12345\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    uuid = "01a20a76-4c9f-77f8-8229-fd7f8eb3e07e"
    done = run("--dsn", dsn, "--schema", schema, "release", "stable", "--artifact", uuid)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert uuid in done.stderr
    assert run("release", "--help").returncode == 0
    monkeypatch.chdir(tmp_path)
    for words in (["jobs"], ["server", "status"]):
        lost = run(*words)
        assert (lost.returncode, lost.stderr.count("\n")) == (1, 1)
        assert "no home directory: set BUTIDO_STORE_DATA" in lost.stderr
    assert not (tmp_path / "~").exists()


def test_what_is_not_there_is_named_by_its_option(run: Run, dsn: str, schema: str) -> None:
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(uuid7()))
    on = ("--dsn", dsn, "--schema", schema)
    for words, says in (
        (["jobs", "--of-submit", "99"], "Error: --of-submit: there is no submit whose uuid"),
        (["submits", "--before", str(UUID(int=1))], "Error: --before: there is no submit"),
    ):
        done = run(*on, *words)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(says)


def test_a_directory_that_libpq_cannot_name_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUTIDO_STORE_DATA", f"/nowhere/{BYTES}")
    for words in (["jobs"], ["server", "status"]):
        done = run(*words)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "is not UTF-8: set BUTIDO_STORE_DATA" in done.stderr


def test_a_key_that_cannot_be_read_is_named_by_its_variable(
    run: Run, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUTIDO_STORE_SECRET_KEY_FILE", "/nowhere/key")
    done = run("--dsn", dsn, "--schema", schema, "jobs")
    assert done.returncode == 2
    assert "BUTIDO_STORE_SECRET_KEY_FILE" in done.stderr.splitlines()[-1]


def test_a_missing_argument_names_its_choices(run: Run) -> None:
    done = run("completion")
    assert done.returncode == 2
    assert "bash,\n\tfish" in done.stderr
