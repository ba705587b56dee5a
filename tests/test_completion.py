"""What a shell gets to offer when somebody presses Tab, asked as click's scripts ask."""

import shlex
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from filled import BROKEN, DONE, LIBRARY, NEXT, PROGRAM, RUNNING, SUBMIT, TWIN, UNSAID
from psycopg import sql
from shell import Run

pytestmark = pytest.mark.any_server

Offered = Callable[..., list[str]]
SHELLS = ["bash", "zsh", "fish"]
JOBS = [UNSAID, BROKEN, TWIN, RUNNING, NEXT, DONE]


@pytest.fixture
def offered(run: Run, schema: str, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Return the values that a shell is given for the last word of a command line."""

    def ask(dsn: str, *words: str, shell: str = "bash") -> list[str]:
        line = ["butido-store", "--dsn", dsn, "--schema", schema, *words]
        last = line.pop()
        monkeypatch.setenv("_BUTIDO_STORE_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", f"{shlex.join(line)} {shlex.quote(last) if last else ''}")
        monkeypatch.setenv("COMP_CWORD", last if shell == "fish" else str(len(line)))
        done = run()
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.rstrip("\n").splitlines()
        if shell == "zsh":
            return lines[1::3]
        return [line.partition(",")[2].partition("\t")[0] for line in lines]

    return ask


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_completes(
    offered: Offered, run: Run, filled: str, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(filled, "job", "", shell=shell) == [*map(str, JOBS)]
    assert offered(filled, "jobs", "--package", "zl", shell=shell) == ["zlib"]
    monkeypatch.delenv("_BUTIDO_STORE_COMPLETE")
    script = run("completion", shell).stdout
    assert f"_BUTIDO_STORE_COMPLETE={shell}_complete" in script


def test_uuids_are_offered_newest_first(offered: Offered, filled: str) -> None:
    assert offered(filled, "log-of", str(NEXT)[:36]) == [str(NEXT)]
    assert offered(filled, "jobs", "--before", "0000") == [*map(str, JOBS)]
    assert str(SUBMIT) in offered(filled, "jobs", "--of-submit", "")
    assert str(PROGRAM) in offered(filled, "provenance", "")
    assert str(LIBRARY) in offered(filled, "release", "stable", "--artifact", "")
    assert str(LIBRARY) in offered(filled, "withdraw", "stable", "")
    assert offered(filled, "job", "f") == offered(filled, "job", "$(") == []


def test_no_more_uuids_than_somebody_reads(
    offered: Offered, filled: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    connection.execute(
        "INSERT INTO artifact (uuid, path, sha256, size) SELECT md5(n::text)::uuid, n::text,"
        " text_sha256(n::text), 1 FROM generate_series(1, 200) AS n"
    )
    found = offered(filled, "provenance", "")
    assert len(found) == 50
    assert found == sorted(found, key=UUID, reverse=True)


def test_packages_are_offered_by_their_beginning(
    offered: Offered, filled: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    for name in ("zlib", "zlib-ng", "zsh", "a$(touch x)", "-z", "zl\nx", "ZLIB", "z%"):
        for version in ("9", "10"):
            connection.execute(
                "INSERT INTO package (name, version) VALUES (%s, %s)", [name, version]
            )
    for words in (["history"], ["submits", "--with-pkg"], ["packages", "--name"]):
        assert offered(filled, *words, "zl") == ["zlib", "zlib-ng"]
    assert offered(filled, "history", "a") == []
    assert "zsh" in offered(filled, "history", "")
    assert offered(filled, "envvars", "--name", "zl") == []


def test_a_failure_is_silent(offered: Offered, database_dsn: str) -> None:
    for dsn in (database_dsn, "host=/nowhere", "nonsense", "postgresql://u:a@b@c/d"):
        assert offered(dsn, "job", "") == []
    assert offered(database_dsn, "--schema", "public", "job", "") == []


def test_it_waits_for_nobody(
    offered: Offered, filled: str, schema: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    with connection.transaction():
        connection.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(schema, "job"))
        )
        assert offered(filled, "job", "") == []


def test_no_server_is_started_for_it(
    run: Run, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    monkeypatch.setenv("_BUTIDO_STORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "butido-store job ")
    monkeypatch.setenv("COMP_CWORD", "2")
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    assert [*short_directory.iterdir()] == []
