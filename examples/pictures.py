"""Renew what the pages show: what commands print, and the picture of the demonstration.

`./dev run python examples/pictures.py` starts a PostgreSQL in a temporary directory, and runs the
console blocks of README.md and docs/ in a terminal of 80 columns. Uuids and times are given, so
that all of it comes out the same each time. With `--demo` it also runs the demonstration, which
takes minutes and needs a package index, and draws docs/demo.svg.
"""

import io
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from butido_store import Store, artifact, job, release, submit
from butido_store.admin.migrate import Migrator
from butido_store.artifact import Output
from butido_store.embedded import Server

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
DEMO = REPOSITORY / "docs" / "demo.svg"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FONT = re.compile(r" *@font-face \{.*?\}\n", re.DOTALL)
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# A page may show one of these.
EXAMPLES = [file.read_text(encoding="utf-8") for file in (REPOSITORY / "examples").glob("*.py")]
_COLUMNS, _LINES = 80, 24
# A block that begins with this sets up its own database.
_SETS_UP = "$ butido-store migrate apply"

_TIME = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_SUBMIT = UUID("019b8d5c-1f00-7a10-8000-000000000001")
_VERSIONS = {"zlib": "1.3.1", "libpng": "1.6.50", "app": "2.0"}
_NEEDS: Mapping[str, list[str]] = {"zlib": [], "libpng": ["zlib"], "app": ["zlib", "libpng"]}
_LOG = "CC png.c\nCC main.c\nLD app\n#BUTIDO:STATE:OK\n"
_FAILED = "CC png.c\npng.c:3:10: fatal error: png.h: No such file or directory\n"
_ENV = {"LANG": "C.UTF-8"}


def _uuid(number: int) -> UUID:
    return UUID(int=_SUBMIT.int + (number << 96))


def _output(path: str, number: int) -> Output:
    return Output(path, sha256(path.encode()).digest(), 1, _uuid(number))


def fill(store: Store) -> None:
    """Record two submits of the same package: the job of the first one failed."""
    nodes = [
        {
            "name": name,
            "version": version,
            "dependencies": [[*_VERSIONS].index(needed) for needed in _NEEDS[name]],
        }
        for name, version in _VERSIONS.items()
    ]
    commits = (
        "c9f0f895fb98ab9159f51fd0297e236d8ff6a4e5",
        "9fceb02d0ae598e95dc970b74767f19372d61af8",
    )
    for place, commit in enumerate(commits):
        store.run(
            submit.create(
                _uuid(10 * place - 10),
                timestamp=_TIME - timedelta(days=1 - place),
                package="app",
                version="2.0",
                image="debian:12",
                repo_hash=commit,
                tree={"root": 2, "nodes": nodes},
                buildplan={"jobs": []},
                env=_ENV,
                actor="jane",
                labels={"ci": "nightly"},
            )
        )
    for number, name in enumerate(_VERSIONS, 1):
        tar = _output(f"{name}-{_VERSIONS[name]}.tar.gz", number)
        store.run(artifact.register(tar.path, sha256=tar.sha256, size=1, uuid=tar.uuid))
    _record(store, "app", -9, submit=-10, begun=_TIME - timedelta(days=1), made=None)
    for number, name in enumerate(_VERSIONS):
        begun = _TIME + timedelta(minutes=number)
        _record(store, name, 11 + number, submit=0, begun=begun, made=21 + number)
    store.run(
        release.create(
            _uuid(31), store="stable", timestamp=_TIME, actor="jane", artifacts=[_uuid(21)]
        )
    )


def _record(
    store: Store, name: str, number: int, *, submit: int, begun: datetime, made: int | None
) -> None:
    """Record a job by the numbers of its uuids; one that made nothing failed."""
    needed = _NEEDS[name] if made else []
    place = {one: number for number, one in enumerate(_VERSIONS)}
    store.run(
        job.record(
            job.EndedJob(
                uuid=_uuid(number),
                submit=_uuid(submit),
                package=name,
                version=_VERSIONS[name],
                image="debian:12",
                endpoint="builder-1",
                state="success" if made else "error",
                started_at=begun,
                finished_at=begun + timedelta(seconds=39 + number if made else 9),
                script="make\n",
                env=_ENV,
                log=_LOG if made else _FAILED,
                inputs=[_uuid(1 + place[name]), *(_uuid(21 + place[one]) for one in needed)],
                outputs=[_output(f"{name}-{_VERSIONS[name]}.pkg", made)] if made else [],
            )
        )
    )


def _environment() -> dict[str, str]:
    """Return the environment without what names a database, or the width of a terminal."""
    kept = dict(os.environ)
    for name in os.environ:
        # The programs of the server may be chosen.
        if name.startswith(("PG", "BUTIDO_STORE_")) and name != "BUTIDO_STORE_BINDIR":
            del kept[name]
    kept.pop("COLUMNS", None)
    return kept


class Stage:
    """Where blocks run: a database for each page, and a directory with the files they name."""

    def __init__(self, dsn: str, bindir: Path, directory: Path) -> None:
        """Make a database with the two submits.

        :param dsn: of a server that databases can be made on
        :param bindir: where its psql is, if it has one
        :param directory: an empty one
        """
        self._dsn = dsn
        self._directory = directory
        self._number = 0
        programs = directory / ".bin"
        programs.mkdir()
        for name, words in (("butido-store", ["-m", "butido_store"]), ("python", [])):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *words])} "$@"\n')
            program.chmod(0o755)
        for name in ("examples", "schema", "sql"):
            (directory / name).symlink_to(REPOSITORY / name)
        self._environment = _environment() | {
            "PATH": os.pathsep.join([str(programs), str(bindir), os.environ["PATH"]]),
            "PYTHONPATH": str(REPOSITORY),
            "PAGER": "cat",
            "PGTZ": "UTC",
            "USER": "jane",
        }
        self._filled = self._database()
        with psycopg.connect(self._filled, autocommit=True) as connection:
            Migrator(connection).apply()
        with Store.connect(self._filled) as store:
            fill(store)

    def _database(self, template: str = "template1") -> str:
        """Make a database, and return its DSN."""
        self._number += 1
        name = f"pages_{os.getpid()}_{self._number}"
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return make_conninfo(self._dsn, dbname=name)

    def _variables(self, dsn: str) -> dict[str, str]:
        """Return an environment that leads to a database."""
        names = {"dbname": "PGDATABASE"}
        given = conninfo_to_dict(dsn).items()
        return self._environment | {
            names.get(key, f"PG{key.upper()}"): str(value) for key, value in given
        }

    def shown(self, page: str) -> str:
        """Return a page with what its commands and its Python print now; run its SQL, too.

        :param page: a text block at once after a Python block is what that prints
        """
        dsn = self._database(str(conninfo_to_dict(self._filled)["dbname"]))
        names: dict[str, object] = {"__name__": "__main__"}
        printed, end = "", -1

        def renew(found: re.Match[str]) -> str:
            nonlocal printed, end
            kind, text = found.groups()
            if kind == "console":
                text = self._console(text, dsn)
            elif kind == "python" and text not in EXAMPLES:
                printed, end = self._run(text, names, dsn), found.end()
            elif kind == "text" and not page[end : found.start()].strip():
                text = printed
            elif kind == "sql":
                self._check(text, dsn)
            return f"```{kind}\n{text}```"

        return BLOCK.sub(renew, page)

    def _console(self, block: str, dsn: str) -> str:
        environment = self._variables(self._database() if block.startswith(_SETS_UP) else dsn)
        # A line that ends in a backslash goes on.
        commands = re.findall(r"^\$ (?:.*\\\n)*.*\n", block, re.MULTILINE)
        shown = [
            command + _STYLE.sub("", typed(command[2:], environment, self._directory))
            for command in commands
        ]
        return "".join(shown).rstrip("\n") + "\n"

    def _check(self, commands: str, dsn: str) -> None:
        """Run SQL, and undo it."""
        with psycopg.connect(dsn) as connection:
            connection.execute(commands.encode())
            connection.rollback()

    def _run(self, code: str, names: dict[str, object], dsn: str) -> str:
        """Run Python as on a page: names stay for what comes below."""
        before = dict(os.environ)
        printed = io.StringIO()
        try:
            os.environ.update(self._variables(dsn))
            with chdir(self._directory), redirect_stdout(printed):
                exec(compile(code, "page", "exec"), names)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return printed.getvalue()


def typed(command: str, environment: Mapping[str, str], directory: Path) -> str:
    """Return what a command shows in a terminal of 80 columns.

    :param command: what the shell runs
    :param environment: all of its variables
    :param directory: where it is typed
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (_LINES, _COLUMNS))
    with subprocess.Popen(
        ["sh", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=directory,
    ):
        os.close(theirs)
        sent = b"".join(_pieces(ours))
    os.close(ours)
    lines = sent.decode().replace("\r\n", "\n").splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _pieces(terminal: int) -> Iterator[bytes]:
    """Yield what a terminal is sent, until nobody has it open any more."""
    try:
        while piece := os.read(terminal, 65536):
            yield piece
    except OSError:
        pass  # This is how a terminal says so.


@contextmanager
def _server() -> Iterator[tuple[Server, Path]]:
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        # The server runs as another user where this runs as root.
        Path(name).chmod(0o755)
        with Server(Path(name) / "data") as server:
            yield server, Path(name)


def two_runs(text: str) -> str:
    """Return what the demonstration prints of its two runs, out of all that it does."""
    lines = text.splitlines()
    headings = ("First run", "The submits")
    begin, end = (next(n for n, line in enumerate(lines) if one in line) for one in headings)
    return "\n".join(lines[begin:end])


def _draw() -> None:
    """Run the demonstration, and draw its two runs."""
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        # The server runs as another user where this runs as root.
        Path(name).chmod(0o755)
        # What goes on is not shown by moving the cursor, which is no picture.
        environment = _environment() | {"BUTIDO_STORE_DATA": name, "TERM": "dumb"}
        command = shlex.join([sys.executable, "-m", "butido_store", "demo"])
        text = typed(command, environment, REPOSITORY)
    shown = Text.from_ansi(two_runs(text))
    shown.highlight_regex(r"(?<=: )built|\bbuilt(?= +\d)", "yellow")
    shown.highlight_regex(r"\breused\b", "bold green")
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    console.print(shown)
    svg = console.export_svg(title="./dev demo", unique_id="demo", theme=DIMMED_MONOKAI)
    # No page is to load a font from elsewhere.
    DEMO.write_text(_FONT.sub("", svg).replace("Fira Code", "DejaVu Sans Mono"), encoding="utf-8")


def main() -> None:
    """Run it from the command line."""
    with _server() as (server, directory):
        place = directory / "pages"
        place.mkdir()
        stage = Stage(server.dsn, server.bindir, place)
        for page in PAGES:
            page.write_text(stage.shown(page.read_text(encoding="utf-8")), encoding="utf-8")
    if "--demo" in sys.argv[1:]:
        _draw()


if __name__ == "__main__":
    main()
