"""Which database is meant: the one of a DSN, of libpq's environment, or the embedded one."""

import os
import threading
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from butido_store.errors import ConnectionFailed

if TYPE_CHECKING:
    from butido_store.embedded import Server

# What libpq reads to know which server and database are meant.
_LIBPQ_ENVIRONMENT = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")


class Target:
    """A database to connect to; while entered, the embedded server runs if it is that one."""

    def __init__(self, dsn: str | None) -> None:
        """Decide which database is meant.

        :param dsn: a libpq connection string or URI; None for libpq's environment, if it names
            one, and else the embedded server
        :raises ConnectionFailed: the connection string is not valid
        """
        self._lock = threading.Lock()
        self._entered = False
        self.server: Server | None = None
        if dsn is None and not any(name in os.environ for name in _LIBPQ_ENVIRONMENT):
            self.server = _embedded()
            dsn = self.server.dsn
        self.dsn = dsn or ""
        try:
            conninfo_to_dict(self.dsn)
        except psycopg.Error:
            # libpq's message quotes what it did not understand: a part of a password, perhaps.
            raise ConnectionFailed(
                "the connection string is not valid; write 'host=… dbname=…' or 'postgresql://…'"
            ) from None

    def __enter__(self) -> Self:
        """Have the embedded server running, if it is the one."""
        with self._lock:
            self._enter()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the embedded server, which stops if nobody else uses it."""
        self.leave()

    def leave(self) -> None:
        """Leave the embedded server, which stops if nobody else uses it."""
        with self._lock:
            self._leave()

    def again(self) -> None:
        """Have the embedded server running again after it was lost."""
        with self._lock:
            self._leave()
            self._enter()

    def _enter(self) -> None:
        if self.server and not self._entered:
            self.server.__enter__()
            self._entered = True

    def _leave(self) -> None:
        if self.server and self._entered:
            self._entered = False
            self.server.__exit__(None, None, None)


def _embedded() -> "Server":
    from butido_store.embedded import Server

    return Server()


def refused(error: psycopg.Error) -> ConnectionFailed:
    """Return the error for a connection that could not be made."""
    lines = [line.strip() for line in str(error).splitlines()]
    return ConnectionFailed(
        f"{'; '.join(lines)}: check host, port, database, user and password "
        "(the DSN, the PG… environment or ~/.pgpass)"
    )
