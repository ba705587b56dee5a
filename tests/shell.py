"""The command line as somebody at a terminal has it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import forked
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with arguments, as somebody at a terminal of 200 columns would."""
    kept = "BUTIDO_STORE_BINDIR"  # the server that the tests run on
    for name in [name for name in os.environ if name.startswith(("PG", "BUTIDO_STORE"))]:
        if name != kept:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        if not before and forked.can_fork(os.environ):
            done = forked.run(arguments, os.environ)
            out, err = done.stdout.decode(), done.stderr.decode()
            return subprocess.CompletedProcess(arguments, done.returncode, out, err)
        program = str(Path(sys.executable).parent / "butido-store")
        command = [program] if Path(program).exists() else [sys.executable, "-m", "butido_store"]
        return subprocess.run([*before, *command, *arguments], capture_output=True, text=True)

    return run


def looking_at(schema: str) -> str:
    """Return options of a DSN that have the session look names up in this schema."""
    path = '"' + schema.replace('"', '""') + '"'
    # The server splits options at spaces, unless a backslash stands before them.
    return "-c search_path=" + "".join(f"\\{c}" if c in " \\\t\n" else c for c in path)
