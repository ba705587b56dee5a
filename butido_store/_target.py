"""Which database is meant: the one of a DSN, of libpq's environment, or the embedded one."""

import os
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
        if self.server:
            self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the embedded server, which stops if nobody else uses it."""
        self.leave()

    def leave(self) -> None:
        """Leave the embedded server, which stops if nobody else uses it."""
        if self.server:
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
