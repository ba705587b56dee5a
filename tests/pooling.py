"""Fixtures for tests through pgbouncer, which stands between the tests and the run's server."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from conftest import Postgres
from psycopg.conninfo import make_conninfo

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_PORT = 6432
_PATIENCE = 60


class Pgbouncer:
    """A pgbouncer before a server, in a directory of its own."""

    def __init__(
        self, directory: Path, host: str, *, mode: str, size: int, roles: Sequence[str]
    ) -> None:
        """Write down what it is to do.

        :param host: the server's socket directory
        :param mode: `session` or `transaction`
        :param size: how many sessions it has for each database and role
        :param roles: who may connect
        """
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "users").write_text("".join(f'"{role}" ""\n' for role in roles))
        (directory / "ini").write_text(
            f"""
[databases]
* = host={host} port=5432
[pgbouncer]
unix_socket_dir = {directory}
listen_port = {_PORT}
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {size}
server_login_retry = 1
"""
        )
        # It refuses to run as root, and nobody but the server's own user gets at its socket.
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = Path(host).stat()
            self._account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
            os.chown(directory, owner.st_uid, owner.st_gid)

    def through(self, dsn: str) -> str:
        """Return the DSN of the same database through this pooler."""
        return make_conninfo(dsn, host=str(self.directory), port=_PORT)

    def start(self) -> None:
        """Start it.

        :raises RuntimeError: it does not answer; with what it says
        """
        assert PROGRAM
        log = self.directory / "log"
        with log.open("ab") as output:
            self._process = process = subprocess.Popen(
                [PROGRAM, str(self.directory / "ini")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **self._account,
            )
        deadline = time.monotonic() + _PATIENCE
        while not _answers(self.directory / f".s.PGSQL.{_PORT}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    def wait(self) -> None:
        """Wait until it has ended."""
        assert self._process
        self._process.wait(_PATIENCE)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._process:
            self._process.kill()
            self._process.wait()


def _answers(path: Path) -> bool:
    """Tell whether somebody listens; that the socket is there comes a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


class Start(Protocol):
    """Starts a pooler."""

    def __call__(self, mode: str, size: int = 3) -> Pgbouncer: ...


@contextmanager
def _running(postgres: Postgres, directory: Path, mode: str, size: int) -> Iterator[Pgbouncer]:
    if PROGRAM is None:
        pytest.skip("there is no pgbouncer: install the package of that name")
    pooler = Pgbouncer(directory, postgres.host, mode=mode, size=size, roles=[postgres.user])
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.kill()


@pytest.fixture
def pooler(postgres: Postgres, short_directory: Path) -> Iterator[Start]:
    """Start a pgbouncer of this mode, with so many sessions for each database and role."""
    with ExitStack() as stack:
        yield lambda mode, size=3: stack.enter_context(
            _running(postgres, short_directory, mode, size)
        )
