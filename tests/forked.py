"""Commands as processes that need not start: forks of one that has read the command line's modules.

To start takes a command 0.4 s of a processor, a fork 0.05 s.
"""

import atexit
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile
from typing import Any

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["butido_store.cli.main", "butido_store.cli.demo", "butido_store.cli.reports"]
)
# What Python reads when it starts, and what of that is done here.
_AT_START = ("LANG", "LC_", "PYTHON")
_DONE = ("PYTHONIOENCODING", "PYTHONUNBUFFERED")


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in environment.items()
        if name.startswith(_AT_START) and name not in _DONE
    }


_KNOWN = _read_at_start(os.environ)


def can_fork(environment: Mapping[str, str]) -> bool:
    """Say whether a fork is as good as a start in this environment."""
    return _read_at_start(environment) == _KNOWN


def fork(
    arguments: Sequence[str], streams: Sequence[int], environment: Mapping[str, str]
) -> BaseProcess:
    """Run the command line with these standard streams."""
    process = _PROCESSES.Process(
        target=_run,
        args=(arguments, _Streams(streams), dict(environment), Path.cwd()),
        # One that hangs ends with the tests.
        daemon=True,
    )
    process.start()
    return process


def code(process: BaseProcess) -> int:
    """Wait for a command's end, and return its exit code."""
    process.join()
    found = process.exitcode
    process.close()
    assert found is not None
    return found


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    given: bytes = b"",
    output: int | None = None,
) -> CompletedProcess[bytes]:
    """Run the command line to its end.

    :param given: what it reads
    :param output: where it writes to; it is returned where there is none
    """
    assert can_fork(environment)
    with TemporaryFile() as in_, TemporaryFile() as out, TemporaryFile() as err:
        in_.write(given)
        in_.seek(0)
        streams = [in_.fileno(), out.fileno() if output is None else output, err.fileno()]
        ended = code(fork(arguments, streams, environment))
        for file in (out, err):
            file.seek(0)
        return CompletedProcess(arguments, ended, out.read(), err.read())


class _Streams:
    """File descriptors for another process."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def __getstate__(self) -> dict[str, Any]:
        # Only while a process is started is there one to give them to.
        return {"given": [DupFd(number) for number in self._numbers]}

    def take(self) -> None:
        """Make them the standard streams of this process."""
        for number, given in enumerate(self.given):  # type: ignore[attr-defined]
            os.dup2(given.detach(), number)
        encoding = os.environ.get("PYTHONIOENCODING")
        unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
        sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115 - to the end
        sys.stdout = TextIOWrapper(
            open(1, "wb", 0 if unbuffered else -1, closefd=False),  # noqa: SIM115
            encoding,
            line_buffering=os.isatty(1),
            write_through=unbuffered,
        )
        sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115


def _run(
    arguments: Sequence[str], streams: _Streams, environment: Mapping[str, str], directory: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    streams.take()
    from butido_store.cli.main import main

    try:
        main(list(arguments), prog_name="butido-store")
    finally:
        # A process of this kind ends without them.
        atexit._run_exitfuncs()
