"""The command line as a program runs it, and as somebody at a terminal does."""

import os
import pty
import re
import sys
import termios
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from forked import can_fork, code, fork

from butido_store.cli.main import main

Shell = Callable[..., Result]
# Bold, dim, and the end of both.
_STYLE = re.compile(r"\x1b\[[012]m")


class Shown(NamedTuple):
    """What a terminal was sent, without the styles of headings, and the exit code."""

    text: str
    code: int

    @property
    def lines(self) -> list[str]:
        """Return its lines."""
        return self.text.splitlines()


Terminal = Callable[..., Shown]


@pytest.fixture
def shell(dsn: str, schema: str) -> Shell:
    """Run a command on the test's database."""

    def run(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(main, ["--dsn", dsn, "--schema", schema, *arguments], **options)

    return run


@pytest.fixture
def options(dsn: str, schema: str) -> list[str]:
    """The begin of a command's arguments: on the test's database."""
    return ["--dsn", dsn, "--schema", schema]


@pytest.fixture
def command(options: list[str]) -> list[str]:
    """The begin of a command on the test's database, as a process of its own."""
    return [sys.executable, "-m", "butido_store", *options]


@pytest.fixture
def terminal(options: list[str]) -> Terminal:
    """Run a command on the test's database, at a terminal of so many columns."""

    def run(
        *arguments: str, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> Shown:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        kept = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
        kept |= environment or {}
        assert can_fork(kept)
        process = fork([*options, *arguments], [theirs] * 3, kept)
        os.close(theirs)
        sent = b""
        try:
            while piece := os.read(ours, 65536):
                sent += piece
        except OSError:
            pass  # This is how a terminal says that nobody has it open any more.
        os.close(ours)
        # The terminal makes CR LF of each LF.
        return Shown(_STYLE.sub("", sent.decode().replace("\r\n", "\n")), code(process))

    return run
