"""Which database is meant, and whether it is ready for this version."""

import os
import re
import threading
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, Self, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict

from butido_store import _check
from butido_store._check import OLDEST_SERVER
from butido_store._conversation import DENIED, Conversation, denied
from butido_store._query import directory
from butido_store._statement import Step, step
from butido_store.errors import ConnectionFailed, InvalidInput, SchemaMismatch

if TYPE_CHECKING:
    from butido_store.embedded import Server

DEFAULT_SCHEMA = "butido"
_URI = re.compile(r"postgres(?:ql)?://")
_PHASE = re.compile(r"-- Phase:\s+(\w+)")
# What libpq reads to know which server and database are meant.
_LIBPQ_ENVIRONMENT = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")
# https://www.postgresql.org/docs/current/libpq-connect.html: in seconds, tcp_user_timeout in ms
_TIMEOUTS = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
}


class Target:
    """A database to connect to; if it is the embedded server's, that runs while this is entered."""

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
        _check_dsn(self.dsn)

    @property
    def timeouts(self) -> dict[str, int]:
        """What bounds the wait for a host that is gone, unless the connection string says it."""
        said = {*conninfo_to_dict(self.dsn)}
        if "PGCONNECT_TIMEOUT" in os.environ:
            said.add("connect_timeout")
        return {name: value for name, value in _TIMEOUTS.items() if name not in said}

    def __enter__(self) -> Self:
        """Have the embedded server running, if its database is meant."""
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


def _check_dsn(dsn: str) -> None:
    """Refuse a connection string that libpq does not understand, or misunderstands.

    libpq's messages quote what they are about: a part of a password, perhaps, so none is passed on.
    Nor does libpq get to connect where it would take a part of the password for a host, port or
    database.
    """
    try:
        found = conninfo_to_dict(_check.text("dsn", dsn))
    except (psycopg.Error, InvalidInput):
        raise ConnectionFailed(
            "the connection string is not valid; write 'host=… dbname=…' or 'postgresql://…'"
        ) from None
    if _URI.match(str(found.get("dbname") or os.environ.get("PGDATABASE") or "")):
        raise ConnectionFailed(
            "a URI is given as the name of a database; it is a connection string of its own"
        )
    ports = str(found.get("port") or "").split(",")
    misread = not all(port.strip().isdigit() for port in ports if port)
    if scheme := _URI.match(dsn):
        # As libpq does: what stands before the first '@' is the user's, unless a '/' does too.
        user, at, place = dsn[scheme.end() :].partition("@")
        if not at or "/" in user:
            user, place = "", dsn[scheme.end() :]
        misread = misread or "?" in user or "@" in place.partition("?")[0]
    if misread:
        raise ConnectionFailed(
            "the connection string is ambiguous, or its port no number; in a URI's user and "
            "password write %40 for @, %2F for /, %3A for : and %3F for ?"
        )


def _embedded() -> "Server":
    """Return the embedded server; its module is needed by nobody who has another."""
    from butido_store.embedded import Server

    return Server()


def refused(error: psycopg.Error) -> ConnectionFailed:
    """Return the error for a connection that could not be made."""
    lines = [line.strip() for line in str(error).splitlines()]
    if "unsupported startup parameter" in lines[-1]:
        return ConnectionFailed(
            f"{'; '.join(lines)}: a pooler in between refuses it; leave it out (of the DSN and of "
            "PGOPTIONS), and set what it was for with ALTER ROLE … SET"
        )
    return ConnectionFailed(
        f"{'; '.join(lines)}: check host, port, database, user and password "
        "(the DSN, the PG… environment or ~/.pgpass)"
    )


@dataclass(frozen=True, slots=True)
class Lent:
    """What makes the session the library's where a pooler lends one: before all else, each time."""

    begin: Step
    go_on: Step


def opening(schema: str, pid: int) -> Conversation[Lent | None]:
    """Make the session the library's, and check what is found there.

    :param schema: name of the schema that holds the tables
    :param pid: the server process that the connection was told of; 0 where a pooler is known to be
        in between
    :returns: what goes before all else from now on, where a pooler is in between
    :raises SchemaMismatch: the message says what is wrong and what to do
    :raises InvalidInput: no schema can have this name
    :raises PermissionDenied: the role may not look there
    """
    try:
        return (yield from _opening(_check.text("schema", schema), pid))
    except DENIED as error:
        raise (yield from denied(error, ("migration/applied",), schema)) from error


def _opening(schema: str, pid: int) -> Conversation[Lent | None]:
    # Never prepared: behind a pooler, another transaction may not find what this one has prepared.
    session, go_on, begin = (
        step("store/session", {"schema": schema, "pid": told, "begins": begins}, prepare=False)
        for told, begins in ((pid, False), (0, False), (0, True))
    )
    look = step("store/open", {"schema": schema}, prepare=False)
    ((lent, *_),), rows = yield [session, look]
    *_, database, encoding, version, has_schema, is_migrated = rows[0]
    server = cast(int, version)
    if server < OLDEST_SERVER * 10000:
        raise SchemaMismatch(
            f"the server is PostgreSQL {server // 10000}; "
            f"butido_store needs {OLDEST_SERVER} or newer"
        )
    if encoding != "UTF8":
        raise SchemaMismatch(
            f"the encoding of database {database} is {encoding}; "
            "create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    advice = "run `butido-store migrate apply`"
    if schema != DEFAULT_SCHEMA:
        advice = f"run `butido-store --schema {schema} migrate apply`"
    if not has_schema:
        raise SchemaMismatch(f"database {database} has no schema {schema}; {advice}")
    if not is_migrated:
        raise SchemaMismatch(
            f"schema {schema} of database {database} holds no butido_store; {advice}"
        )
    applied = step("migration/applied", {}, prepare=False)
    *_, rows = yield [begin, applied] if lent else [applied]
    phases = {row[0]: row[3] for row in rows}
    _compare(schema, phases, advice)
    return Lent(begin, go_on) if lent else None


def _compare(schema: str, applied: dict[object, object], advice: str) -> None:
    """Refuse a schema that lacks a migration this version needs, or has one too new for it.

    A `pre` migration goes before the code that needs it and leaves older code working; a `post`
    migration goes after. So every `pre` one of this release must be there, and no `post` one of a
    later release may be.

    :param applied: the phase of each migration that is applied, by its id
    :param advice: what to do about a schema that is too old
    """
    known = _phases()
    missing = sorted(id for id, phase in known.items() if phase == "pre" and id not in applied)
    if missing:
        raise SchemaMismatch(
            f"schema {schema} is older than this version of butido_store: "
            f"{', '.join(missing)} is not applied; {advice}"
        )
    newer = sorted(str(id) for id in applied if id not in known and applied[id] != "pre")
    if newer:
        raise SchemaMismatch(
            f"schema {schema} is newer than this version of butido_store: "
            f"it has {', '.join(newer)}; upgrade the package"
        )


@cache
def _phases() -> dict[str, str]:
    """Return the phase of each migration of this release, as its header has it, by its id."""
    found = {}
    for path in (directory("schema") / "migrations").glob("*.sql"):
        # A migration is NNNN.name.sql; its rollback has a word more.
        if path.name.count(".") == 2:
            with path.open(encoding="utf-8") as file:
                header = takewhile(lambda line: line.startswith("--"), file)
                found[path.stem] = next(m[1] for m in map(_PHASE.match, header) if m)
    return found
