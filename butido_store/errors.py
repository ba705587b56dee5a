"""The errors of butido_store: one small hierarchy, told apart by what the caller can do."""

import re
from collections.abc import Iterable, Sequence

import psycopg
from psycopg import sql


class StoreError(Exception):
    """The store could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class InvalidInput(StoreError, ValueError):
    """A value was refused before anything was written; the message names the field."""


class NotFound(StoreError, LookupError):
    """What was asked for, or referred to, is not in the store."""


class LogRemoved(NotFound):
    """The job has ended, and its log was removed since; `Job.log_size` is what it had."""


class Conflict(StoreError):
    """What is in the store already says otherwise."""


class NotRunning(StoreError):
    """The job has ended, so it takes no log, heartbeat or other end."""


class ConnectionFailed(StoreError):
    """The database could not be reached, or refused the connection."""


class SchemaMismatch(StoreError):
    """The database has no schema, an older or newer one, or one that has to be mended."""


class Unavailable(StoreError):
    """The database failed in a way that a later attempt may not."""


class Canceled(StoreError):
    """The server ended what was asked before it was done: by a timeout, or somebody's wish."""


class ReadOnly(StoreError):
    """The server takes no writes, by a setting of its own, of the database or of the role."""


class PermissionDenied(StoreError):
    """The role lacks a privilege; the message names it, and says what grants it."""


class QueryFileError(StoreError):
    """A query file, or a call of it, breaks the rules of query files."""


class MigrationError(StoreError):
    """A migration was refused or failed; the message says what to do."""


class EmbeddedServerError(StoreError):
    """The embedded PostgreSQL could not be set up, started or stopped."""


# Connection, transaction rollback, resources, operator intervention, system: the conditions that
# pass. https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57", "58"})
# Somebody, statement_timeout or transaction_timeout ended it on purpose: another attempt would come
# to the same end.
_CANCELED = frozenset({"57014", "25P04"})
# Waits for a standby's promotion.
_READ_ONLY = "25006"
# What idle_in_transaction_session_timeout ends, since this process was held up.
_IDLE = "25P03"
# With a lock that is taken, and an intermediate result of Citus that is gone.
_TRANSIENT = frozenset({_READ_ONLY, _IDLE, "55P03", "CIINF"})
_AUTHORIZATION_CLASS = "28"
_INVALID_CATALOG_NAME = "3D000"
_INSUFFICIENT_PRIVILEGE = "42501"
_UNDEFINED = frozenset({"3F000", "42P01", "42703", "42883"})
_UNIQUE_VIOLATION = "23505"
# Those whose key a sequence gives. The builder gives all others, as uuids.
SERIAL_TABLES = frozenset(
    {"endpoint", "environment", "envvar", "git_hash", "image", "package", "release_store"}
)
_SET_SEQUENCE = sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {}")
# Citus names a constraint in the message only, and as the shard has it: job_pkey_102008.
_CONSTRAINT_IN_MESSAGE = re.compile(r'constraint "([^"]+?)(?:_\d{5,})?"')
_REFUSED_CLASSES = frozenset({"22", "23", "54"})
# What sql/report/jobs.sql and submits.sql have the server refuse as a time: there is no such row.
_BEFORE_IN_MESSAGE = re.compile(r"before: there is no (?:job|submit) [0-9a-f-]{36}")


def is_transient(error: psycopg.Error, *, connection_lost: bool) -> bool:
    """Tell whether the same statement may succeed later, on this or another connection.

    :param error: what psycopg raised
    :param connection_lost: the connection broke, so an error without SQLSTATE is the network's
    """
    state = error.sqlstate
    if state is None:
        return connection_lost
    if state in _CANCELED:
        return False
    return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT


def from_database(
    error: psycopg.Error, *, connection_lost: bool = False, read_only: bool = False
) -> StoreError:
    """Return this package's error for a database error, by SQLSTATE and the constraint's name.

    :param error: what psycopg raised
    :param connection_lost: the connection broke, so an error without SQLSTATE is the network's
    :param read_only: the session is read-only by a setting, so that no later attempt may write
    :returns: the error to raise `from` the one given
    """
    state = error.sqlstate or ""
    primary = error.diag.message_primary or str(error).strip() or type(error).__name__
    if state in _CANCELED:
        return Canceled(
            f"the server ended it early: {primary}. If by a timeout, ask for less, with a limit or "
            "a shorter time, or raise statement_timeout or transaction_timeout for this role"
        )
    if state == _READ_ONLY and read_only:
        return ReadOnly(
            f"{primary}: default_transaction_read_only is on for this server, database, role or "
            "DSN; connect where it is off"
        )
    if state == _READ_ONLY:
        return Unavailable(
            f"the server takes no writes, as a standby does not: {primary}. Connect to the "
            "primary, by a DSN with all hosts and target_session_attrs=read-write for instance"
        )
    if state == _IDLE:
        return Unavailable(
            f"{primary}: the rows were not read on for so long that the server ended the stream"
        )
    if is_transient(error, connection_lost=connection_lost):
        return Unavailable(f"the database is unavailable: {primary}")
    if state == _INSUFFICIENT_PRIVILEGE:
        return PermissionDenied(
            f"{primary}: as the owner, grant what is lacking: to read, USAGE on the schema and "
            "SELECT on its tables; schema/roles.sql makes roles that have what a builder, a "
            "janitor or a reader needs"
        )
    if state[:2] == _AUTHORIZATION_CLASS or state == _INVALID_CATALOG_NAME:
        return ConnectionFailed(primary)
    if state in _UNDEFINED:
        return SchemaMismatch(
            f"{primary}: the schema is not the one this version of butido_store needs, which "
            "`butido-store migrate status` shows, or the session's search_path is not the schema's"
        )
    if said := _BEFORE_IN_MESSAGE.search(primary):
        return NotFound(
            f"{said[0]}; if it was removed since, give its time as before_at, and the page after "
            "it is found all the same"
        )
    constraint = error.diag.constraint_name or ""
    if not constraint and (named := _CONSTRAINT_IN_MESSAGE.search(primary)):
        constraint = named[1]
    if state == _UNIQUE_VIOLATION and constraint.endswith("_pkey"):
        table = constraint.removesuffix("_pkey")
        if table in SERIAL_TABLES:
            relation = sql.Identifier(*filter(None, [error.diag.schema_name]), table)
            mending = _SET_SEQUENCE.format(sql.Literal(relation.as_string()), relation)
            return SchemaMismatch(
                f"the sequence of {table}.id is behind its table, as after a switch to a replica: "
                f"as the owner, run {mending.as_string()}, and the same for the other tables that "
                "have an id"
            )
        return Conflict(f"a uuid in table {table} is in the store already, with other content")
    if state[:2] in _REFUSED_CLASSES:
        where = f" (constraint {constraint})" if constraint else ""
        return InvalidInput(f"the database refused the values: {primary}{where}")
    return StoreError(primary)


def from_privileges(error: psycopg.Error, lacked: Iterable[Sequence[object]]) -> StoreError:
    """Return this package's error for what failed since the role lacks privileges.

    :param error: what psycopg raised
    :param lacked: the privileges, rows of sql/store/denied.sql
    :returns: the error to raise `from` the one given; that of `from_database` if nothing is lacking
    """
    rows = [tuple(map(str, row)) for row in lacked]
    # Functions are named only where nothing else is: all of the schema's are asked for, and whoever
    # may not use the schema or its tables lacks more than them.
    rows = [row for row in rows if row[2] != "FUNCTION"] or rows
    if not rows:
        return from_database(error)
    lacking: dict[tuple[str, str], list[str]] = {}
    for _, privilege, kind, name in rows:
        lacking.setdefault((kind, name), []).append(privilege)
    alike: dict[str, list[str]] = {}
    for (kind, name), privileges in lacking.items():
        what = "" if kind == "TABLE" else f"{kind} "
        alike.setdefault(f"{', '.join(privileges)} ON {what}", []).append(name)
    grants = [some + ", ".join(names) for some, names in alike.items()]
    role = rows[0][0]
    return PermissionDenied(
        f"role {role} lacks {' and '.join(grants)} (schema/roles.sql makes roles that have what a "
        "builder, a janitor or a reader needs): as the owner, run "
        + "; ".join(f"GRANT {grant} TO {role}" for grant in grants)
    )
