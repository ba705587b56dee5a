"""Apply and undo the migrations of `schema/migrations`.

yoyo gives the files' format, their order and the tables they are recorded in, so its command line
can list them. This module runs them: a migration and its record are one transaction, one migrator
works at a time, and a file that was edited after it was applied is refused.
"""

import glob
import hashlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from select import select
from typing import Any, Literal, TypeVar

import psycopg
from psycopg.errors import DeadlockDetected, InsufficientPrivilege, LockNotAvailable
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from yoyo.exceptions import MigrationConflict
from yoyo.migrations import (
    get_migration_hash,
    parse_metadata_from_sql_comments,
    read_migrations,
)
from yoyo.topologicalsort import CycleError, topological_sort

from butido_store import _check, errors
from butido_store._check import OLDEST_SERVER
from butido_store._conversation import DENIED, lacked
from butido_store._query import directory as shipped_directory
from butido_store._query import query, tokenize
from butido_store._target import DEFAULT_SCHEMA
from butido_store.admin.header import Header, Phase, conflicts, parse, pg_mode
from butido_store.errors import MigrationError, PermissionDenied, QueryFileError, StoreError

A = TypeVar("A")
State = Literal["applied", "pending", "edited", "unknown"]

ZERO = "zero"
"""Where `Migrator.rollback` goes to undo every migration."""

_POLL_SECONDS = 0.1
_POOLER_SECONDS = 2.0
# Between two attempts at a lock: readers and writers who queued up behind the first get through.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 10.0
# How long an attempt may hold up those who queue behind it, and the least that is worth one.
_LONGEST_WAIT_MS, _SHORTEST_WAIT_MS = 150, 10
# What a session has while it migrates. No timeouts: CREATE INDEX CONCURRENTLY waits for every older
# transaction, blocking none, and cut off it leaves an invalid index. Others set their own. psycopg
# reads times back in these styles only.
SETTINGS = {
    "lock_timeout": "0",
    "statement_timeout": "0",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
}
_NEEDS_A_SESSION = (
    "migrations need one session throughout, and a pooler in between lends each transaction "
    "another one: connect to the server itself, or to a pooler in session mode"
)

_ID = re.compile(r"(?P<number>\d{4})\.[a-z0-9][a-z0-9-]*")
_TRANSACTION_CONTROL = re.compile(
    r"(?:ABORT|BEGIN|COMMIT|END|PREPARE TRANSACTION|RELEASE|ROLLBACK|SAVEPOINT|START)\b", re.I
)
_SET_LOCK_TIMEOUT = re.compile(r"SET LOCAL lock_timeout = '(?P<ms>[1-9]\d{0,2})ms'", re.I)
_CREATE_INDEX = re.compile(
    r'CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?P<index>"(?:[^"]|"")+"|\w+) ON .+', re.I | re.S
)
_DROP_INDEX = re.compile(r'DROP INDEX CONCURRENTLY IF EXISTS (?P<index>"(?:[^"]|"")+"|\w+)', re.I)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement of a file, and the line that it starts on."""

    line: int
    words: str  # one space between tokens, no comments
    text: str  # as it is written, from its first word to its last


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A migration on disk, checked: it and its rollback can be run as they are."""

    id: str
    header: Header
    transactional: bool
    depends: frozenset[str]
    sha256: bytes
    path: Path
    rollback_path: Path
    _up: list[_Statement] = field(repr=False)
    _down: list[_Statement] = field(repr=False)

    @property
    def phase(self) -> Phase:
        """Tell whether it is applied before the release's code is rolled out, or after."""
        return self.header.phase

    @property
    def leftover(self) -> str | None:
        """Return what drops the index that an attempt left which was cut off, if it makes one."""
        drop = None if self.transactional else _leftover(self._up, self._down)
        return drop.text if drop else None


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where a migration stands; an `unknown` one is a newer release's: there is no file of it."""

    id: str
    applied_at: datetime | None
    phase: Phase
    transactional: bool
    duration: timedelta | None
    state: State


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """What a rollback would undo, and how many records there are by table, if it loses some."""

    undone: list[str]
    lost: dict[str, int]
    host: str
    port: int
    database: str
    schema: str

    def __str__(self) -> str:
        """Return all of it in one line."""
        records = ", ".join(
            f"{count:,} {table}{'s' if count > 1 else ''}" for table, count in self.lost.items()
        )
        return (
            f"{', '.join(self.undone) or 'nothing'} in schema {self.schema!r} of database "
            f"{self.database!r} on {self.host}:{self.port}, with {records or 'no record'},"
        )


# The schema in which a plan tries migrations out.
SCRATCH = "butido_store_plan"


def check_schema(schema: str) -> None:
    """Refuse a name that no schema of a store can have.

    :param schema: the schema's name
    :raises InvalidInput: it is no text
    :raises MigrationError: no store can be in a schema of this name
    """
    name = _check.text("schema", schema).encode()
    # PostgreSQL cuts longer names, and reads "$user" in a search path as the role's own schema.
    if not 0 < len(name) <= 63 or schema == "$user":
        raise MigrationError(f"a schema's name has 1 to 63 bytes and is not {schema!r}")
    if schema in ("public", "information_schema") or schema.startswith("pg_"):
        raise MigrationError(f"the store has a schema of its own, which {schema!r} cannot be")
    if schema == SCRATCH:
        raise MigrationError(f"a plan tries migrations out in schema {schema!r}, and drops it")


def shipped(directory: Path | None = None) -> list[MigrationFile]:
    """Read the migrations of a directory, in the order they are applied in.

    :param directory: where they are; by default those of this release
    :raises MigrationError: there are none, or a file breaks a rule of `schema/README.md`
    """
    directory = directory or shipped_directory("schema") / "migrations"
    try:
        found = read_migrations(glob.escape(str(directory)))
    except MigrationConflict as error:
        raise MigrationError(f"{directory} holds migration {error} twice") from error
    files: dict[str, MigrationFile] = {}
    numbers: dict[str, str] = {}
    for migration in [*found, *found.post_apply]:
        path = Path(migration.path)
        name = _ID.fullmatch(migration.id)
        if name is None or path.suffix != ".sql":
            raise MigrationError(f"{path}: a migration is called NNNN.short-name.sql")
        twin = numbers.setdefault(name["number"], migration.id)
        if twin != migration.id:
            raise MigrationError(f"{path}: {twin} has this number already")
        files[migration.id] = _read(migration.id, path)
    if not files:
        raise MigrationError(f"{directory} holds no migrations")
    for file in files.values():
        if missing := file.depends - files.keys():
            raise MigrationError(
                f"{file.path}: depends on {', '.join(sorted(missing))}, which is not there"
            )
    try:
        order = list(topological_sort(files, {file.id: file.depends for file in files.values()}))
    except CycleError as error:
        raise MigrationError(f"{directory} depends in a circle: {error.args[1]}") from error
    return [files[id_] for id_ in order]


def _read(id_: str, path: Path) -> MigrationFile:
    """Read and check one migration and its rollback."""
    content, sql = _text(path)
    # yoyo's Migration.load() would look dependencies up among all migrations that the process
    # ever read, whatever their directory, and split the file; only its header parser is used.
    directives, comment, _ = parse_metadata_from_sql_comments(sql)
    header = parse(comment, path)
    transactional = directives.get("transactional", "true").lower()
    if transactional not in ("true", "false"):
        raise MigrationError(f"{path}: transactional is true or false, not {transactional}")
    rollback_path = path.with_suffix(".rollback.sql")
    if not rollback_path.is_file():
        raise MigrationError(f"{path}: there is no {rollback_path.name} beside it")
    _, rollback_sql = _text(rollback_path)
    up, down = _statements(sql, path), _statements(rollback_sql, rollback_path)
    if transactional == "true":
        _check_transactional(up, path)
        _check_transactional(down, rollback_path)
    else:
        _check_concurrent(up, down, path)
    return MigrationFile(
        id=id_,
        header=header,
        transactional=transactional == "true",
        depends=frozenset(directives.get("depends", "").split()),
        sha256=hashlib.sha256(content).digest(),
        path=path,
        rollback_path=rollback_path,
        _up=up,
        _down=down,
    )


def _text(path: Path) -> tuple[bytes, str]:
    """Read a file as the bytes that its checksum is of, and as text."""
    try:
        content = path.read_bytes()
        sql = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"{path} cannot be read: {error}") from error
    if "\0" in sql:
        # libpq takes the text up to the first NUL, and says nothing of the rest.
        raise MigrationError(f"{path}: the file holds a NUL byte")
    if "\r" in sql:
        # Its checksum would not be that of the file elsewhere, either.
        raise MigrationError(
            f"{path}: the lines end as on Windows (CRLF), which a checkout did; run "
            "`git config core.autocrlf false`, and check the file out again"
        )
    return content, sql


def _check_transactional(statements: list[_Statement], path: Path) -> None:
    """Refuse a file that would leave its transaction, or wait for a lock for ever."""
    for statement in statements:
        if control := _TRANSACTION_CONTROL.match(statement.words):
            raise MigrationError(
                f"{path}:{statement.line}: {control[0]} breaks the one transaction that a "
                "migration runs in"
            )
    if not statements or not 0 < _wait_ms(statements) <= _LONGEST_WAIT_MS:
        raise MigrationError(
            f"{path}: the first statement is SET LOCAL lock_timeout = '{_LONGEST_WAIT_MS}ms' or "
            "less, so that a lock not to be had stops the migration and not the builders queued up "
            "behind it"
        )


def _leftover(statements: list[_Statement], opposite: list[_Statement]) -> _Statement | None:
    """Return what drops the index that a file makes: an attempt cut off left it, valid or not."""
    return opposite[0] if _CREATE_INDEX.fullmatch(statements[0].words) else None


def _wait_ms(statements: list[_Statement]) -> int:
    """Return how long a file waits for a lock, or 0 if its first statement does not say so."""
    found = _SET_LOCK_TIMEOUT.fullmatch(statements[0].words)
    return int(found["ms"]) if found else 0


def _check_concurrent(up: list[_Statement], down: list[_Statement], path: Path) -> None:
    """Refuse all but one index, made and dropped: nothing else can be tried again after a crash."""
    if len(up) == len(down) == 1:
        for one, other in ((up, down), (down, up)):
            create = _CREATE_INDEX.fullmatch(one[0].words)
            drop = _DROP_INDEX.fullmatch(other[0].words)
            if create and drop and create["index"] == drop["index"]:
                return
    raise MigrationError(
        f"{path}: a migration that is not transactional holds one statement, CREATE [UNIQUE] "
        "INDEX CONCURRENTLY name ON … or DROP INDEX CONCURRENTLY IF EXISTS name, and its rollback "
        "holds the other one"
    )


def _statements(sql: str, path: Path) -> list[_Statement]:
    """Cut a file into its statements."""
    statements: list[_Statement] = []
    words: list[str] = []
    text: list[str] = []
    start = depth = 0

    def end() -> None:
        if words:
            statements.append(_Statement(start, " ".join(words), "".join(text).rstrip()))
        words.clear()
        text.clear()

    try:
        for token in tokenize(sql, path):
            word = token.text.upper()
            if token.kind in ("space", "line", "block"):
                # A comment before a statement says nothing to the server.
                text += [token.text] if words else []
                continue
            if token.kind == "command":
                raise MigrationError(f"{path}:{token.line}: {token.text} is psql's, not SQL")
            if token.kind == "end" and not depth:
                end()
                continue
            if word == "ATOMIC" and words[-1:] and words[-1].upper() == "BEGIN":
                depth = 1
            elif depth:
                # The semicolons of a BEGIN ATOMIC body are the function's; its END is not a CASE's.
                depth += (word == "CASE") - (word == "END")
            start = start if words else token.line
            words.append(token.text)
            text.append(token.text)
    except QueryFileError as error:
        raise MigrationError(str(error)) from error
    if depth:
        raise MigrationError(f"{path}:{start}: the body that starts with BEGIN ATOMIC has no END")
    end()
    return statements


def _send(connection: psycopg.Connection[Any], statement: str) -> None:
    """Run one statement, and leave its rows where they are."""
    # One message for each: Citus sends the whole text of a message on for each statement in it.
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(statement, prepare=False)


def _keep_books(connection: psycopg.Connection[Any]) -> None:
    """Create the tables that migrations are recorded in."""
    path = shipped_directory("schema") / "bookkeeping.sql"
    for statement in _statements(path.read_text("utf-8"), path):
        _send(connection, statement.text)


def rehearse(
    connection: psycopg.Connection[Any], files: list[MigrationFile], *, bookkeeping: bool
) -> None:
    """Make what migrations make, in the caller's transaction, which the caller undoes.

    :param connection: within a transaction; its search path is a schema that is not there
    :param files: the migrations
    :param bookkeeping: also the tables that migrations are recorded in
    """
    _send(connection, query("migration/create_schema").render(frozenset()).sql)
    if bookkeeping:
        _keep_books(connection)
    for file in files:
        for statement in file._up:
            # Nobody is to be spared, and in a transaction nothing is concurrent.
            words = statement.words.replace(" INDEX CONCURRENTLY ", " INDEX ")
            _send(connection, statement.text if file.transactional else words)


class Migrator:
    """Applies and undoes migrations over one connection; one migrator works on a schema at a time.

    The lock is the session's: of a migrator that is killed it goes as soon as the server has ended
    the statement that ran. Connect directly, or through a pooler that lends its session until the
    client leaves: pgbouncer in session mode.

    Where the database fails in what is asked beside a migration, each method raises the
    `StoreError` of its SQLSTATE.
    """

    def __init__(
        self,
        connection: psycopg.Connection[object],
        *,
        schema: str = DEFAULT_SCHEMA,
        directory: Path | None = None,
        lock_wait: float | None = None,
        retry_for: float = 300,
        tell: Callable[[str], object] | None = None,
        role: str | None = None,
    ) -> None:
        """Check the schema's name and the server; nothing is sent to it yet.

        :param connection: outside of any transaction; it is put into autocommit mode and stays so
        :param schema: the schema that holds the store, created when it is not there
        :param directory: where the migrations are; by default those of this release
        :param lock_wait: seconds to wait for another migrator, None for as long as it takes
        :param retry_for: seconds to try for the locks of a migration that others are in the way of
        :param tell: is called after each such attempt, with a line that says who is
        :param role: who does all of it, and owns what is created; by default the connection's user
        :raises InvalidInput: one of them is something else, or no schema can have this name
        :raises MigrationError: no store can be in this schema or on this server
        """
        _check.instance("connection", connection, psycopg.Connection)
        _check.given(_check.seconds, "lock_wait", lock_wait)
        _check.seconds("retry_for", retry_for)
        _check.given(_check.some_text, "role", role)
        if directory is not None:
            _check.instance("directory", directory, Path)
        _check.given(_check.function, "tell", tell)
        self._check_schema(schema)
        self._connection = connection
        self._schema = schema
        self._directory = directory
        self._lock_wait = lock_wait
        self._retry_for = retry_for
        self._tell = tell
        self._role = role
        # The server's process, where it is not the one that the connection was told of.
        self._lent: int | None = None
        self._check_idle()
        version = connection.info.server_version
        if version < OLDEST_SERVER * 10000:
            raise MigrationError(
                f"PostgreSQL {OLDEST_SERVER} or later is needed; this is {version // 10000}"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise MigrationError(f"the database's encoding has to be UTF8; it is {encoding}")

    def status(self) -> list[MigrationStatus]:
        """Tell where each migration stands; takes no lock and writes nothing.

        :returns: those of this release in their order, then those of newer ones
        :raises MigrationError: a file breaks a rule, or the connection is in a transaction
        """
        files = shipped(self._directory)
        with self._session() as session:
            applied = self._applied(session)
        known = [_status(file, applied.pop(file.id, None)) for file in files]
        return known + [
            MigrationStatus(id_, row["applied_at"], row["phase"], True, row["duration"], "unknown")
            for id_, row in applied.items()
        ]

    def stores(self) -> list[str]:
        """Return which schemas of the database hold a store.

        :returns: their names, in order
        :raises MigrationError: the connection is in a transaction
        """
        with self._session():
            return [row["schema"] for row in self._run("migration/stores")]

    def apply(self, *, to: str | None = None, phase: Literal["pre"] | None = None) -> list[str]:
        """Apply what is pending, each migration in a transaction of its own.

        :param to: the last one to apply; by default all
        :param phase: `pre` stops before the first one that waits until the older code is gone
        :returns: the ids of those applied now
        :raises InvalidInput: the phase is another one
        :raises MigrationError: one was refused or failed; those before it stay applied
        """
        if phase is not None:
            _check.choice("phase", phase, ["pre"])
        files = shipped(self._directory)
        wanted = files if to is None else files[: position(files, to)]
        with self._session(alone=True) as session:
            self._prepare(session)
            applied = self._verified(files, session)
            pending = [file for file in wanted if file.id not in applied]
            if phase == "pre":
                pending = list(takewhile(lambda file: file.phase == "pre", pending))
            for file in pending:
                self._perform(file)
        return [file.id for file in pending]

    def rollback(self, *, to: str, lose_data: bool = False) -> list[str]:
        """Undo every applied migration that comes after the one named, the last one first.

        :param to: the migration that stays as the last one, or `ZERO`
        :param lose_data: also if records are lost with it
        :returns: the ids of those undone now
        :raises MigrationError: one was refused or failed; those undone before it stay undone
        """
        files = shipped(self._directory)
        with self._session(alone=True) as session:
            plan, undone = self._planned(files, to, session)
            if plan.lost and not lose_data:
                raise MigrationError(
                    f"undoing {plan} would lose them: make a backup, and say lose_data=True or, on "
                    "the command line, --lose-data"
                )
            for file in undone:
                self._perform(file, undo=True)
        return plan.undone

    def rollback_plan(self, *, to: str) -> RollbackPlan:
        """Tell what `rollback` would undo and lose; writes nothing, and is in nobody's way.

        :param to: the migration that stays as the last one, or `ZERO`
        :returns: what its text says in one line
        :raises MigrationError: the rollback would be refused
        """
        files = shipped(self._directory)
        with self._session() as session:
            return self._planned(files, to, session)[0]

    def _planned(
        self, files: list[MigrationFile], to: str, session: dict[str, Any]
    ) -> tuple[RollbackPlan, list[MigrationFile]]:
        """Return what a rollback would do, and the migrations that it would undo."""
        undone = self._to_undo(files, to, session)
        lost: dict[str, int] = {}
        if not all(file.header.lossless for file in undone) and self._run("migration/has_records"):
            locks = dict.fromkeys(("submit", "job", "artifact", "release"), "ACCESS SHARE")
            counts = self._trying("counting what would be lost", self._counts, locks)
            lost = {table: count for table, count in counts.items() if count}
        info = self._connection.info
        place = (info.host or info.hostaddr, info.port, info.dbname, self._schema)
        return RollbackPlan([file.id for file in undone], lost, *place), undone

    def _counts(self) -> dict[str, int]:
        """Return how many records each table has."""
        try:
            with self._connection.transaction():
                self._run("migration/limit_wait", lock_timeout=f"{_LONGEST_WAIT_MS}ms")
                return self._run("migration/count")[0]
        except PermissionDenied as error:
            # Whoever may not count the records may not drop their tables, either.
            raise MigrationError(
                f"role {self._connection.info.user} may not read what a rollback would lose; "
                "migrate as the owner of the schema"
            ) from error
        except StoreError as error:
            raise MigrationError(
                f"what a rollback would lose cannot be counted: {error}"
            ) from error.__cause__

    def _to_undo(
        self, files: list[MigrationFile], to: str, session: dict[str, Any]
    ) -> list[MigrationFile]:
        """Return the migrations that come after the one named, the last one first."""
        kept = 0 if to == ZERO else position(files, to)
        applied = self._verified(files, session)
        if to != ZERO and to not in applied:
            raise MigrationError(f"{to} is not applied, so there is no way back to it")
        newer = applied.keys() - {file.id for file in files}
        if newer := {id_ for id_ in newer if to == ZERO or id_ > to}:
            raise MigrationError(
                f"{', '.join(sorted(newer))} would have to be undone, but this release has no "
                "such file: undo it with the release that brought it"
            )
        return [file for file in reversed(files[kept:]) if file.id in applied]

    def _idle(self) -> bool:
        """Tell whether the connection is open and outside of any transaction."""
        return self._connection.info.transaction_status == TransactionStatus.IDLE

    def _check_idle(self) -> None:
        """Refuse a connection that is closed or in somebody's transaction."""
        if not self._idle():
            raise MigrationError(
                "migrations need an open connection outside of any transaction; this one's state "
                f"is {self._connection.info.transaction_status.name}"
            )

    @staticmethod
    def _check_schema(schema: str) -> None:
        check_schema(schema)

    @contextmanager
    def _session(self, *, alone: bool = False) -> Iterator[dict[str, Any]]:
        """Have the session look at the schema for one operation, and set it back after."""
        self._check_idle()
        self._connection.autocommit = True
        self._check_pooler()
        with self._locked() if alone else nullcontext():
            session = self._run("migration/session", schema=self._schema)[0]
            before = {name: session[name] for name in ("search_path", *SETTINGS)}
            self._run("migration/set", search_path=session["search_path_wanted"], **SETTINGS)
            try:
                self._become()
                yield session
            finally:
                if self._idle():
                    if self._role is not None:
                        self._run("migration/set_role", role=session["role"])
                    self._run("migration/set", **before)

    def _become(self) -> None:
        """Act as the role that was named."""
        if self._role is None:
            return
        try:
            self._run("migration/set_role", role=self._role)
        except StoreError as error:
            cause = error.__cause__
            reason = cause.diag.message_primary if isinstance(cause, psycopg.Error) else error
            raise MigrationError(
                f"role {self._role!r} cannot migrate: {reason}; schema/roles.sql makes the owner, "
                "and whoever was granted that role can act as it"
            ) from error

    def _check_pooler(self) -> None:
        """Refuse a pooler that lends a session for a transaction only."""
        info, pid = self._connection.info, self._pid()
        self._lent = None if pid == info.backend_pid else pid
        if self._lent is None:
            return
        # Such a pooler lends the session that we had to the next one who asks, or us another one.
        # In session mode there may be no further one, and no answer.
        sql, _ = query("migration/pid").render(frozenset()).bind({})
        with (
            suppress(psycopg.Error),
            closing(psycopg.connect(info.dsn, password=info.password)) as other,
        ):
            other.pgconn.send_query(sql)
            if select([other], [], [], _POOLER_SECONDS)[0]:
                answer = other.pgconn.get_result()
                if answer and answer.get_value(0, 0) == str(pid).encode():
                    raise MigrationError(_NEEDS_A_SESSION)
        self._check_session()

    def _check_session(self) -> None:
        """Refuse to go on in a session that a pooler lent instead of the one with the lock."""
        if self._lent is not None and self._pid() != self._lent:
            raise MigrationError(_NEEDS_A_SESSION)

    def _pid(self) -> int:
        """Return which server process answers."""
        return int(self._run("migration/pid")[0]["pid"])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the schema's only migrator."""
        deadline = None if self._lock_wait is None else time.monotonic() + self._lock_wait
        while not self._run("migration/lock", schema=self._schema)[0]["locked"]:
            if deadline is not None and time.monotonic() >= deadline:
                holders = self._run("migration/holder", schema=self._schema)
                pids = ", ".join(str(row["pid"]) for row in holders) or "gone by now"
                raise MigrationError(
                    f"another migrator is at work on {self._schema!r} (server process {pids}): "
                    "wait for longer, with lock_wait or --lock-wait"
                )
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            if self._idle():
                self._run("migration/unlock", schema=self._schema)
            else:
                # Lost, or stuck in the middle of a command: the lock goes with the session.
                self._connection.close()

    def _prepare(self, session: dict[str, Any]) -> None:
        """Create the schema and the tables that migrations are recorded in, where missing."""
        if session["has_tables"]:
            return
        try:
            with self._connection.transaction():
                self._check_session()
                if not session["has_schema"]:
                    self._run("migration/create_schema")
                _keep_books(self._connection)
        except MigrationError:
            raise
        except (psycopg.Error, StoreError) as error:
            reason = str(error)
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if isinstance(cause, InsufficientPrivilege):
                reason = (
                    f"{cause.diag.message_primary}; the role needs CREATE on the database, or to "
                    "own the schema"
                )
            raise MigrationError(f"schema {self._schema!r} cannot be set up: {reason}") from error
        session["has_tables"] = True

    def _applied(self, session: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what is recorded as applied, by id."""
        rows = self._run("migration/applied") if session["has_tables"] else []
        return {row["id"]: row for row in rows}

    def _verified(
        self, files: list[MigrationFile], session: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Return what is applied, or refuse if a file is not the one that was."""
        applied = self._applied(session)
        for file in files:
            if file.id in applied and applied[file.id]["sha256"] != file.sha256:
                raise MigrationError(
                    f"{file.path} is not the file that was applied: restore it, and write a new "
                    "migration for what has to change"
                )
        return applied

    def _perform(self, file: MigrationFile, *, undo: bool = False) -> None:
        """Run a migration or its rollback, and record it; try again if a lock is not to be had."""
        # A rollback's header does not say which locks it takes.
        locks = {} if undo else file.header.locks
        self._trying(file.id, partial(self._attempt, file, undo=undo), locks)

    def _trying(self, what: str, attempt: Callable[[], A], locks: Mapping[str, str]) -> A:
        """Do something, again and again while others hold locks that are in the way.

        :param what: what it is, for people
        :param attempt: does it once
        :param locks: those that it takes, by table; none where that is not known
        """
        started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        for number in count(1):
            try:
                return attempt()
            except MigrationError as error:
                if not self._idle() or not isinstance(
                    error.__cause__, (LockNotAvailable, DeadlockDetected)
                ):
                    raise
                # Asked for at once, before they are gone.
                blockers = self._blockers(locks) or "nobody, by now"
                left = started + self._retry_for - time.monotonic()
                if left <= 0:
                    raise MigrationError(f"{error}; in the way: {blockers}") from error
                pause = min(pause, left)
                if self._tell:
                    self._tell(
                        f"{what}: attempt {number} had to wait for a lock; in the way: "
                        f"{blockers}; the next attempt is in {pause:.2g} s"
                    )
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("count() does not end")

    def _blockers(self, locks: Mapping[str, str]) -> str:
        """Say which sessions hold locks that those wanted have to wait for."""
        wanted: dict[str, object] = {}
        if locks:
            pairs = [
                (table, pg_mode(held)) for table, mode in locks.items() for held in conflicts(mode)
            ]
            tables, modes = zip(*pairs, strict=True)
            wanted = {"tables": list(tables), "modes": list(modes)}
        return "; ".join(_blocker(row) for row in self._run("migration/blockers", **wanted))

    def _attempt(self, file: MigrationFile, *, undo: bool) -> None:
        """Run a migration or its rollback, and record it."""
        path, statements, opposite = file.path, file._up, file._down
        if undo:
            path, statements, opposite = file.rollback_path, file._down, file._up
        started = time.monotonic()
        sent: _Statement | None = None
        try:
            with self._connection.transaction() if file.transactional else nullcontext():
                self._check_session()
                if not file.transactional and (drop := _leftover(statements, opposite)):
                    self._send(drop)
                for sent in statements:
                    if file.transactional and sent is not statements[0]:
                        self._limit_wait(_wait_ms(statements), started)
                    self._send(sent)
                sent = None
                self._record(file, started, undo=undo)
        except psycopg.Error as error:
            raise MigrationError(self._failure(file, path, sent, error)) from error
        except MigrationError:
            raise
        except StoreError as error:
            raise MigrationError(f"{path} cannot be recorded: {error}") from error

    def _limit_wait(self, milliseconds: int, started: float) -> None:
        """Have all locks of a transaction together take no longer than the first one may.

        Who queues behind the first one waits while the migration waits for the others.
        """
        left = milliseconds - round((time.monotonic() - started) * 1000)
        self._run("migration/limit_wait", lock_timeout=f"{max(left, _SHORTEST_WAIT_MS)}ms")

    def _failure(
        self, file: MigrationFile, path: Path, sent: _Statement | None, error: psycopg.Error
    ) -> str:
        """Say what failed, where, and what is left of it."""
        diag = error.diag
        where, reason = str(path), diag.message_primary or str(error).strip()
        if sent:
            before = sent.text[: int(diag.statement_position or 1) - 1]
            where += f":{sent.line + before.count(chr(10))}"
        if diag.message_detail:
            reason += f" ({diag.message_detail})"
        if error.sqlstate:
            reason += f", SQLSTATE {error.sqlstate}"
        if isinstance(error, InsufficientPrivilege):
            reason += "; migrate as the owner of the schema"
        kept = "nothing of it was kept"
        if self._connection.closed:
            kept = "the connection is lost: ask for the status before you go on"
        elif not file.transactional:
            kept = "it is not recorded, and the next attempt starts afresh"
        return f"{where}: {reason}; {kept}"

    def _record(self, file: MigrationFile, started: float | None, *, undo: bool = False) -> None:
        """Write down that a migration is applied or undone, or is there without having been run."""
        # Not yoyo's own: that asks DNS for the host and the operating system for a user that a
        # container need not have, and knows no checksum.
        hash_ = get_migration_hash(file.id)
        if undo:
            self._run("migration/unmark", hash=hash_)
        else:
            took = None if started is None else timedelta(seconds=time.monotonic() - started)
            about = {"sha256": file.sha256, "phase": file.phase, "duration": took}
            self._run("migration/mark", hash=hash_, id=file.id, **about)
        operation = "rollback" if undo else "mark" if started is None else "apply"
        host = socket.gethostname()
        self._run("migration/log", hash=hash_, id=file.id, operation=operation, hostname=host)

    def _send(self, statement: _Statement) -> None:
        """Run a statement of a file, and leave its rows where they are."""
        _send(self._connection, statement.text)

    def _run(self, name: str, **parameters: object) -> list[dict[str, Any]]:
        """Run one of the queries of `sql/` and return its rows."""
        sql, values = query(name).render(frozenset(parameters)).bind(parameters)
        try:
            with psycopg.RawCursor(self._connection, row_factory=dict_row) as cursor:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        except DENIED as error:
            if not self._idle():
                raise errors.from_database(error) from error
            with psycopg.RawCursor(self._connection, row_factory=tuple_row) as cursor:
                cursor.execute(*lacked((name,), self._schema).rendered())
                raise errors.from_privileges(error, cursor.fetchall()) from error
        except psycopg.Error as error:
            lost = self._connection.closed
            raise errors.from_database(error, connection_lost=lost) from error


def _status(file: MigrationFile, row: dict[str, Any] | None) -> MigrationStatus:
    """Tell where a migration stands, from its record if there is one."""
    if row is None:
        return MigrationStatus(file.id, None, file.phase, file.transactional, None, "pending")
    state: State = "applied" if row["sha256"] == file.sha256 else "edited"
    return MigrationStatus(
        file.id, row["applied_at"], file.phase, file.transactional, row["duration"], state
    )


def _blocker(row: dict[str, Any]) -> str:
    """Say who holds a lock."""
    if row["pid"] is None:
        return f"a prepared transaction ({row['modes']} on {row['relation']})"
    times = [
        f"{what} since {row[column].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        for what, column in (("transaction", "xact_start"), ("query", "query_start"))
        if row[column]
    ]
    about = ", ".join([f"role {row['role']}", row["state"], *times])
    return f"process {row['pid']} ({about}; {row['modes']} on {row['relation']})"


def position(files: list[MigrationFile], id_: str) -> int:
    """Return how many migrations there are up to the one named, itself included.

    :param files: the migrations in their order
    :param id_: the one named
    :raises MigrationError: it is not among them
    """
    for number, file in enumerate(files, 1):
        if file.id == id_:
            return number
    raise MigrationError(f"there is no migration {id_!r}; the last one is {files[-1].id}")
