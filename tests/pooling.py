"""Fixtures for tests through pgbouncer, which stands between the tests and the run's server."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from conftest import Postgres
from psycopg.conninfo import make_conninfo

_PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_PORT = 6432
_PATIENCE = 60


@dataclass(frozen=True)
class Pooler:
    """A pgbouncer, which lends its few sessions for a transaction each, or for a client's stay."""

    directory: Path

    def through(self, dsn: str) -> str:
        """Return the DSN of the same database through this pooler."""
        return make_conninfo(dsn, host=str(self.directory), port=_PORT)


def _answers(path: Path) -> bool:
    """Tell whether somebody listens; that the socket is there comes a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


class Start(Protocol):
    """Starts a pooler."""

    def __call__(self, mode: str, size: int = 3) -> Pooler: ...


@contextmanager
def _running(postgres: Postgres, directory: Path, mode: str, size: int) -> Iterator[Pooler]:
    if _PROGRAM is None:
        pytest.skip("there is no pgbouncer: install the package of that name")
    (directory / "users").write_text(f'"{postgres.user}" ""\n')
    (directory / "ini").write_text(
        f"""
[databases]
* = host={postgres.host} port={postgres.port}
[pgbouncer]
unix_socket_dir = {directory}
listen_port = {_PORT}
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {size}
"""
    )
    # It refuses to run as root, and nobody but the server's own user gets at the server's socket.
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = Path(postgres.host).stat()
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        os.chown(directory, owner.st_uid, owner.st_gid)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_PROGRAM, str(directory / "ini")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **account,
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _answers(directory / f".s.PGSQL.{_PORT}"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(log.read_text())
            time.sleep(0.01)
        yield Pooler(directory)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def pooler(postgres: Postgres, short_directory: Path) -> Iterator[Start]:
    """Start a pgbouncer of this mode, with so many sessions for each database and role."""
    with ExitStack() as stack:
        yield lambda mode, size=3: stack.enter_context(
            _running(postgres, short_directory, mode, size)
        )
