"""Stores run statements: `Store` blocks, `AsyncStore` awaits."""

import os
import random
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

import psycopg
from psycopg.rows import tuple_row

from butido_store import _check, _connection, _reader
from butido_store._connection import (
    AWAITING,
    BLOCKING,
    Opening,
    Way,
    at_once,
    done,
    each_at_once,
    within,
)
from butido_store._conversation import DENIED, conversation, denied
from butido_store._pipeline import execute
from butido_store._reader import Late, Reader, Unfit
from butido_store._secrets import NO_KEY, Secrets
from butido_store._source import AsyncPool, Own, OwnPool, Pool, Pooled, Single
from butido_store._statement import Statement, step
from butido_store._target import DEFAULT_SCHEMA
from butido_store._watch import Watched
from butido_store.errors import (
    ConnectionFailed,
    InvalidInput,
    NotFound,
    SchemaMismatch,
    StoreError,
    Unavailable,
)

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
Source = TypeVar("Source")

RETRY_FOR = 30.0
READER_WAIT = 2.0
_FETCH = 1000
_SCHEMA_LENGTH = 63
_DELAYS = 0.05, 2.0
# A standby is mostly a few milliseconds behind.
_READER_DELAYS = 0.002, 0.1
_SILENT_FOR = 10.0
# Another attempt would be in vain, and the primary may have another answer.
_UNREAD = (ConnectionFailed, SchemaMismatch, Unfit)


def open_schema(connection: psycopg.Connection[object], schema: str = DEFAULT_SCHEMA) -> None:
    """Set a connection's search path to the schema and check what is found there.

    For connections of the caller's, and as `configure` of a psycopg_pool pool. Behind a pooler
    such as pgbouncer nothing is left in the session: a store then sets the search path in each
    transaction, and the connection's `prepare_threshold` becomes None.

    :param connection: an idle psycopg connection
    :param schema: name of the schema that holds the tables
    :raises InvalidInput: one of them is something else
    :raises SchemaMismatch: the database is not ready for this version
    :raises Unavailable: the link broke, or the server took longer than half a minute
    """
    _check.instance("connection", connection, psycopg.Connection)
    at_once(_connection.open_schema(connection, _schema(schema)))


async def open_schema_async(
    connection: psycopg.AsyncConnection[object], schema: str = DEFAULT_SCHEMA
) -> None:
    """Do what `open_schema` does, for an `AsyncConnection`.

    :param connection: an idle psycopg connection
    :param schema: name of the schema that holds the tables
    :raises InvalidInput: one of them is something else
    :raises SchemaMismatch: the database is not ready for this version
    :raises Unavailable: the link broke, or the server took longer than half a minute
    """
    _check.instance("connection", connection, psycopg.AsyncConnection)
    await _connection.open_schema(connection, _schema(schema))


def _schema(name: str) -> str:
    # Bytes, of which PostgreSQL would cut off the rest.
    if len(_check.name("schema", name).encode()) > _SCHEMA_LENGTH:
        raise InvalidInput(f"schema has more than {_SCHEMA_LENGTH} bytes")
    return name


@dataclass(frozen=True, slots=True, repr=False)
class _Options:
    """What a store of connections of its own is opened with; a DSN may have a password."""

    dsn: str | None
    schema: str
    retry_for: float
    timeout: float | None
    prepare_threshold: int | None
    secrets: Secrets
    reader: str | None
    reader_wait: float

    def own(self, way: Way) -> Own:
        """Return what such a store lends from; nothing is connected yet."""
        _check.seconds("retry_for", self.retry_for)
        _check.given(_check.seconds, "timeout", self.timeout)
        _check.instance("secrets", self.secrets, Secrets)
        return Own(
            way,
            None if self.dsn is None else _check.instance("dsn", self.dsn, str),
            _schema(self.schema),
            _check.given(_check.count, "prepare_threshold", self.prepare_threshold),
        )

    def reads_from(self, way: Way, sizes: tuple[int, int] | None) -> Reader | None:
        """Return where it reads, if not from the primary; nothing is connected yet.

        :param sizes: those of a pool, or None for a single connection
        """
        wait = _check.seconds("reader_wait", self.reader_wait)
        if self.reader is None:
            return None
        dsn = _check.instance("reader", self.reader, str)
        return _reader.of(way, dsn, self.schema, self.prepare_threshold, wait=wait, sizes=sizes)


def _statements(given: tuple[Statement[object], ...]) -> tuple[Statement[object], ...]:
    for statement in given:
        if not isinstance(statement, Statement):
            raise InvalidInput(
                f"run takes statements, and a list of them as run(*statements); "
                f"it was given a {type(statement).__name__}"
            )
    return given


def _reading(statement: Statement[A]) -> Statement[A]:
    if _check.instance("statement", statement, Statement).writes:
        raise InvalidInput("statement writes; a stream is of one that reads: give it to run")
    return statement


def _only_read(statements: tuple[Statement[object], ...]) -> bool:
    return not any(statement.writes or statement.decides for statement in statements)


def _delays(seconds: float, cut_at: float | None, between: tuple[float, float]) -> Iterator[float]:
    """Yield the waits between attempts, in seconds: growing, spread, and ended by a deadline."""
    deadline = time.monotonic() + seconds
    if cut_at is not None:
        deadline = min(deadline, cut_at)
    longest, limit = between
    while True:
        delay = longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        if time.monotonic() + delay >= deadline:
            return
        yield delay
        longest = min(longest * 2, limit)


class _Body(Generic[Source]):
    """What both stores do; they are its blocking and its awaiting face."""

    _way: ClassVar[Way]

    def __init__(
        self,
        source: Source,
        *,
        retry_for: float = RETRY_FOR,
        timeout: float | None = None,
        secrets: Secrets = NO_KEY,
    ) -> None:
        """Use a connection or a pool of the caller's; `open_schema` sets its search path.

        What runs on a connection that is in a transaction, or not in autocommit mode, is part of
        the caller's transaction: the store neither commits it nor tries it again. A write that is
        refused is undone, and the transaction goes on.

        :param source: a psycopg connection or a psycopg_pool pool, of autocommit connections
        :param retry_for: on a pool, for how many seconds to try again while the database is
            unavailable; on a connection nothing is tried again
        :param timeout: for how many seconds a run may take, beside its wait for a turn or a
            connection; None for as long as the server is there
        :param secrets: which variables are stored as digests, and the key; by default they are
            refused
        :raises InvalidInput: one of them is something else, or of the other kind: what is awaited
            where the store blocks, or the other way round
        """
        is_connection = isinstance(source, psycopg.Connection | psycopg.AsyncConnection)
        lends = is_connection or callable(getattr(source, "connection", None))
        # Connections and pools of one kind are entered by `with`, of the other by `async with`.
        kinds = [hasattr(source, name) for name in ("__enter__", "__aenter__")]
        right, wrong = kinds if self._way is BLOCKING else reversed(kinds)
        if not lends or (wrong and not right):
            kind = f"{type(source).__module__}.{type(source).__name__}"
            raise InvalidInput(f"{type(self).__name__} takes no {kind}")
        if is_connection:
            _check.seconds("retry_for", retry_for)
            self._use(Single(cast(Any, source)), 0, timeout, secrets)
        else:
            self._use(Pooled(cast(Any, source)), retry_for, timeout, secrets)

    @classmethod
    def _of(cls, source: Single | Pooled, options: _Options, reader: Reader | None) -> Self:
        """Make a store of a connection, or a pool, of its own."""
        store = cls.__new__(cls)
        store._use(source, options.retry_for, options.timeout, options.secrets, reader)
        return store

    def _use(
        self,
        source: Single | Pooled,
        retry_for: float,
        timeout: float | None,
        secrets: Secrets,
        reader: Reader | None = None,
    ) -> None:
        self._source = source
        self._secrets = _check.instance("secrets", secrets, Secrets)
        self._reader = reader
        self._retry_for = _check.seconds("retry_for", retry_for)
        self._timeout = _check.given(_check.seconds, "timeout", timeout)
        # A silent server is found out in time to try another one.
        self._silent_for = self._retry_for / 3 or _SILENT_FOR
        self._process = os.getpid()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise StoreError(
                "this store was opened before a fork, and its connection is the parent process's; "
                "open one in the child"
            )

    async def _run(self, statements: tuple[Statement[object], ...]) -> Any:
        cut_at = None if self._timeout is None else time.monotonic() + self._timeout
        values = None
        if self._reader and _only_read(statements):
            values = await self._read(self._reader, statements, cut_at)
        if values is None:
            with self._using_primary():
                values = await self._repeat(statements, cut_at)
        return values[0] if len(statements) == 1 else tuple(values)

    @contextmanager
    def _using_primary(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._reader:
                self._reader.used()

    async def _repeat(
        self, statements: tuple[Statement[Any], ...], cut_at: float | None
    ) -> Sequence[Any]:
        """Run statements on the primary, again while it is unavailable."""
        delays = _delays(self._retry_for, cut_at, _DELAYS)
        while True:
            try:
                return await self._attempt(statements, cut_at)
            except Unavailable:
                delay = next(delays, None)
                if delay is None:
                    raise
            await done(self._way.sleep(delay))

    async def _reached(self, reader: Reader, cut_at: float | None) -> Statement[None] | None:
        return await reader.reached(lambda: self._repeat((_reader.POSITION,), cut_at))

    async def _read(
        self, reader: Reader, statements: tuple[Statement[object], ...], cut_at: float | None
    ) -> Sequence[Any] | None:
        """Run statements that read on the reader, once it has what this store wrote or saw.

        :returns: their values; None where the primary has to be asked
        """
        check = await self._reached(reader, cut_at)
        if check is None:
            return None
        delays = _delays(reader.wait, cut_at, _READER_DELAYS)
        asked = statements
        while True:
            try:
                _, *values = await self._attempt((check, *asked), cut_at, reader)
            except NotFound:
                # Another one may have written it a moment ago.
                return None
            except (Late, Unavailable) as error:
                delay = next(delays, None)
                if delay is None:
                    reader.gave_none(error)
                    return None
                if isinstance(error, Late):
                    # What has to wait is asked when it need not, and not each time.
                    asked = ()
            except _UNREAD as error:
                reader.gave_none(error)
                return None
            else:
                if asked is statements:
                    return values
                asked = statements
                continue
            await done(self._way.sleep(delay))

    async def _attempt(
        self,
        statements: tuple[Statement[object], ...],
        cut_at: float | None,
        reader: Reader | None = None,
    ) -> Sequence[Any]:
        self._check_process()
        source: Single | Pooled = reader.source if reader else self._source
        silent_for = reader.silent_for if reader else self._silent_for
        with source.turn:
            async with source.task_turn, source.connection() as connection:
                in_transaction = _connection.in_callers_transaction(connection)
                talk = conversation(
                    statements, in_transaction=in_transaction, secrets=self._secrets
                )
                with Watched(connection, silent_for=silent_for, cut_at=cut_at):
                    return await _connection.converse(connection, talk)

    async def _pages(
        self, statement: Statement[list[A]], idle: float | None
    ) -> AsyncGenerator[list[A], None]:
        """Run a statement that reads, and yield what comes of its rows, a page at a time."""
        self._check_process()
        reader, given = self._reader, False
        # First by another connection, which can be asked again and again.
        if reader and _only_read((statement,)) and await self._read(reader, (), None) is not None:
            try:
                check = await self._reached(reader, None)
                async with aclosing(self._rows_of(statement, idle, reader, check)) as pages:
                    async for page in pages:
                        given = True
                        yield page
                return
            except (Late, Unavailable, *_UNREAD) as error:
                if given:
                    raise
                reader.gave_none(error)
        with self._using_primary():
            async with aclosing(self._rows_of(statement, idle)) as pages:
                async for page in pages:
                    yield page

    async def _rows_of(
        self,
        statement: Statement[list[A]],
        idle: float | None,
        reader: Reader | None = None,
        check: Statement[None] | None = None,
    ) -> AsyncGenerator[list[A], None]:
        """Yield the pages that come of the reader, or of the primary.

        :param check: raises an error where the reader should not be asked
        """
        asked = statement.steps[0].concealed(self._secrets)
        source: Single | Pooled = reader.source if reader else self._source
        silent_for = reader.silent_for if reader else self._silent_for
        async with source.apart() as connection:
            if check:
                talk = conversation((check,), in_transaction=False, secrets=self._secrets)
                with Watched(connection, silent_for=silent_for, cut_at=None):
                    await _connection.converse(connection, talk)
            callers = _connection.in_callers_transaction(connection)
            # Named after the report, so that the server's statistics tell it from others.
            cursor = self._way.server_cursor(connection, asked.query.name, row_factory=tuple_row)
            with (
                Watched(connection, silent_for=silent_for, cut_at=None),
                _connection.acknowledged(connection),
            ):
                try:
                    async with within(connection.transaction()), within(cursor):
                        try:
                            await _connection.begin(connection, callers=callers)
                            # The caller's own transaction would keep it.
                            if idle is not None and not callers:
                                limit = step("store/limit_idle", {"milliseconds": int(idle * 1000)})
                                await execute(connection, [limit])
                            await done(cursor.execute(*asked.rendered(), binary=True))
                            while rows := await done(cursor.fetchmany(_FETCH)):
                                yield statement.collect([rows])
                                self._check_process()
                        except BaseException:
                            # Before the cursor and the transaction are ended on it.
                            if os.getpid() != self._process:
                                _connection.leave_to_parent(connection)
                            _connection.cut_if_busy(connection)
                            raise
                except DENIED as error:
                    ask = denied(error, (asked.query.name,))
                    raise await _connection.converse(connection, ask) from error

    @classmethod
    async def _connected(cls, options: _Options) -> Self:
        own, reader = options.own(cls._way), options.reads_from(cls._way, None)
        return cls._of(await own.open(), options, reader)

    @classmethod
    async def _pooled(cls, options: _Options, sizes: tuple[int, int]) -> Self:
        own = options.own(cls._way)
        for name, size in zip(("min_size", "max_size"), sizes, strict=True):
            _check.count(name, size)
        reader = options.reads_from(cls._way, (0, sizes[1]))
        # Whoever finds all busy waits, even if nothing is tried again.
        patience = options.retry_for or RETRY_FOR
        pool = await OwnPool(own, sizes=sizes, timeout=patience).open()
        try:
            if reader and isinstance(reader.source, OwnPool):
                await reader.source.open_unconnected()
        except BaseException:
            await pool.close()
            raise
        return cls._of(pool, options, reader)

    async def _close(self) -> None:
        # A fork's child has the store, too, and leaves it to the process that opened it.
        if isinstance(self._source, Own | OwnPool) and os.getpid() == self._process:
            try:
                await self._source.close()
            finally:
                if self._reader:
                    await self._reader.source.close()


class Store(_Body[psycopg.Connection[object] | Pool]):
    """Runs statements on a connection of its own, or on a connection or pool of the caller's.

    On a connection of its own (`Store.connect`), or on a pool, it tries again when the database
    fails in a way that passes: a lost connection, a restart, a deadlock. Threads may share a
    store; on a single connection they take turns.
    """

    _way = BLOCKING

    @classmethod
    def connect(
        cls,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        retry_for: float = RETRY_FOR,
        timeout: float | None = None,
        prepare_threshold: int | None = 5,
        secrets: Secrets = NO_KEY,
        reader: str | None = None,
        reader_wait: float = READER_WAIT,
    ) -> Self:
        """Open a store by DSN, by libpq's environment, or else on the embedded server.

        :param dsn: a libpq connection string or URI
        :param schema: name of the schema that holds the tables
        :param retry_for: for how many seconds to try again while the database is unavailable; a
            server that goes silent in a run counts as unavailable after a third of it
        :param timeout: for how many seconds a run may take, beside its wait for a turn or a
            connection; None for as long as the server is there
        :param prepare_threshold: runs after which a statement is prepared, but for a transaction of
            the caller's. Behind a pooler such as pgbouncer nothing is; None says that there is one,
            should it not be noticed
        :param secrets: which variables are stored as digests, and the key; by default they are
            refused
        :param reader: the DSN of a standby, which answers what only reads, once it has all that
            this store wrote or saw before; the primary does where it gives no answer
        :param reader_wait: for how many seconds a run waits for the reader, before it asks the
            primary
        :raises InvalidInput: a value cannot be used
        :raises ConnectionFailed: the server cannot be reached, or refuses the connection
        :raises SchemaMismatch: the database is not ready for this version
        :raises Unavailable: the link broke while the schema was checked
        """
        options = _Options(
            dsn, schema, retry_for, timeout, prepare_threshold, secrets, reader, reader_wait
        )
        return at_once(cls._connected(options))

    @classmethod
    def pooled(
        cls,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        min_size: int = 1,
        max_size: int = 10,
        retry_for: float = RETRY_FOR,
        timeout: float | None = None,
        prepare_threshold: int | None = 5,
        secrets: Secrets = NO_KEY,
        reader: str | None = None,
        reader_wait: float = READER_WAIT,
    ) -> Self:
        """Open a store as `connect` does, on a pool of connections, so that threads need not wait.

        It needs the extra `pool`. The pool grows as it is used, and is closed with the store.

        :param dsn: a libpq connection string or URI
        :param schema: name of the schema that holds the tables
        :param min_size: how many connections are kept open
        :param max_size: how many there are at most; who wants one more waits
        :param retry_for: as for `connect`
        :param timeout: as for `connect`
        :param prepare_threshold: as for `connect`
        :param secrets: as for `connect`
        :param reader: as for `connect`; it has a pool of its own
        :param reader_wait: as for `connect`
        :raises InvalidInput: a value cannot be used
        :raises ConnectionFailed: the server cannot be reached, or refuses the connection
        :raises SchemaMismatch: the database is not ready for this version
        :raises Unavailable: the link broke while the schema was checked
        :raises StoreError: psycopg_pool is not installed
        """
        options = _Options(
            dsn, schema, retry_for, timeout, prepare_threshold, secrets, reader, reader_wait
        )
        return at_once(cls._pooled(options, (min_size, max_size)))

    @overload
    def run(self, a: Statement[A], /) -> A: ...
    @overload
    def run(self, a: Statement[A], b: Statement[B], /) -> tuple[A, B]: ...
    @overload
    def run(self, a: Statement[A], b: Statement[B], c: Statement[C], /) -> tuple[A, B, C]: ...
    @overload
    def run(
        self, a: Statement[A], b: Statement[B], c: Statement[C], d: Statement[D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    def run(
        self, a: Statement[A], b: Statement[B], c: Statement[C], d: Statement[D], e: Statement[E], /
    ) -> tuple[A, B, C, D, E]: ...
    @overload
    def run(
        self,
        a: Statement[A],
        b: Statement[B],
        c: Statement[C],
        d: Statement[D],
        e: Statement[E],
        f: Statement[F],
        /,
    ) -> tuple[A, B, C, D, E, F]: ...
    @overload
    def run(
        self,
        a: Statement[A],
        b: Statement[B],
        c: Statement[C],
        d: Statement[D],
        e: Statement[E],
        f: Statement[F],
        g: Statement[G],
        /,
    ) -> tuple[A, B, C, D, E, F, G]: ...
    @overload
    def run(
        self,
        a: Statement[A],
        b: Statement[B],
        c: Statement[C],
        d: Statement[D],
        e: Statement[E],
        f: Statement[F],
        g: Statement[G],
        h: Statement[H],
        /,
    ) -> tuple[A, B, C, D, E, F, G, H]: ...
    @overload
    def run(self, *statements: Statement[A]) -> tuple[A, ...]: ...
    def run(self, *statements: Statement[object]) -> object:
        """Run statements, several writes in one transaction: all of them happen, or none.

        Type checkers know the value of each of up to eight statements, or of any number of one
        type. The value of a single one stands alone, also where a list was unpacked that has one.

        :param statements: what to run, in this order
        :returns: the value of a single statement, else a tuple with the value of each
        :raises InvalidInput: at once, when one is no statement
        :raises StoreError: as each statement says, and `Unavailable` when time ran out
        """
        return at_once(self._run(_statements(statements)))

    def stream(
        self, statement: Statement[list[A]], *, idle: float | None = None
    ) -> Generator[A, None, None]:
        """Run a statement that reads rows, and yield them as they come, however many there are.

        A stream has a connection of its own, or one of the pool's, until it ends or is closed:
        close one that is not read to its end. Nothing is tried again. On a single connection of the
        caller's the store runs nothing else meanwhile.

        A stream is a transaction, which a migration waits for.

        :param statement: what to run
        :param idle: seconds after which the server ends a stream not read on; None for never
        :returns: the rows, one after the other
        :raises InvalidInput: at once, when it is none that reads
        :raises StoreError: while iterating, when the database fails
        """
        _check.given(_check.seconds, "idle", idle)
        return _rows(self._pages(_reading(statement), idle))

    def close(self) -> None:
        """Close a connection of the store's own; those of the caller stay open."""
        at_once(self._close())

    def __enter__(self) -> Self:
        """Use the store in a `with` block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()


def _rows(pages: AsyncGenerator[list[A], None]) -> Generator[A, None, None]:
    with closing(each_at_once(pages)) as each:
        for page in each:
            yield from page


async def _rows_awaited(pages: AsyncGenerator[list[A], None]) -> AsyncGenerator[A, None]:
    async with aclosing(pages):
        async for page in pages:
            for row in page:
                yield row


class AsyncStore(_Body[psycopg.AsyncConnection[object] | AsyncPool]):
    """What `Store` is, awaited; tasks that share it on a single connection take turns."""

    _way = AWAITING

    @classmethod
    def connect(
        cls,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        retry_for: float = RETRY_FOR,
        timeout: float | None = None,
        prepare_threshold: int | None = 5,
        secrets: Secrets = NO_KEY,
        reader: str | None = None,
        reader_wait: float = READER_WAIT,
    ) -> Opening[Self]:
        """Open a store as `Store.connect` does: with `await`, or with `async with`.

        :raises Unavailable: as there, when the link broke while the schema was checked
        """
        options = _Options(
            dsn, schema, retry_for, timeout, prepare_threshold, secrets, reader, reader_wait
        )
        return Opening(cls._connected(options))

    @classmethod
    def pooled(
        cls,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        min_size: int = 1,
        max_size: int = 10,
        retry_for: float = RETRY_FOR,
        timeout: float | None = None,
        prepare_threshold: int | None = 5,
        secrets: Secrets = NO_KEY,
        reader: str | None = None,
        reader_wait: float = READER_WAIT,
    ) -> Opening[Self]:
        """Open a store as `Store.pooled` does: with `await`, or with `async with`."""
        options = _Options(
            dsn, schema, retry_for, timeout, prepare_threshold, secrets, reader, reader_wait
        )
        return Opening(cls._pooled(options, (min_size, max_size)))

    @overload
    async def run(self, a: Statement[A], /) -> A: ...
    @overload
    async def run(self, a: Statement[A], b: Statement[B], /) -> tuple[A, B]: ...
    @overload
    async def run(self, a: Statement[A], b: Statement[B], c: Statement[C], /) -> tuple[A, B, C]: ...
    @overload
    async def run(
        self, a: Statement[A], b: Statement[B], c: Statement[C], d: Statement[D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    async def run(
        self, a: Statement[A], b: Statement[B], c: Statement[C], d: Statement[D], e: Statement[E], /
    ) -> tuple[A, B, C, D, E]: ...
    @overload
    async def run(
        self,
        a: Statement[A],
        b: Statement[B],
        c: Statement[C],
        d: Statement[D],
        e: Statement[E],
        f: Statement[F],
        /,
    ) -> tuple[A, B, C, D, E, F]: ...
    @overload
    async def run(
        self,
        a: Statement[A],
        b: Statement[B],
        c: Statement[C],
        d: Statement[D],
        e: Statement[E],
        f: Statement[F],
        g: Statement[G],
        /,
    ) -> tuple[A, B, C, D, E, F, G]: ...
    @overload
    async def run(
        self,
        a: Statement[A],
        b: Statement[B],
        c: Statement[C],
        d: Statement[D],
        e: Statement[E],
        f: Statement[F],
        g: Statement[G],
        h: Statement[H],
        /,
    ) -> tuple[A, B, C, D, E, F, G, H]: ...
    @overload
    async def run(self, *statements: Statement[A]) -> tuple[A, ...]: ...
    async def run(self, *statements: Statement[object]) -> object:
        """Run statements as `Store.run` does."""
        return await self._run(_statements(statements))

    def stream(
        self, statement: Statement[list[A]], *, idle: float | None = None
    ) -> AsyncGenerator[A, None]:
        """Run a statement that reads rows, and yield them as they come, as `Store.stream` does.

        :param statement: what to run
        :param idle: seconds after which the server ends a stream not read on; None for never
        :returns: the rows, one after the other; `aclose()` closes a stream before its end
        :raises InvalidInput: at once, when it is none that reads
        :raises StoreError: while iterating, when the database fails
        """
        _check.given(_check.seconds, "idle", idle)
        return _rows_awaited(self._pages(_reading(statement), idle))

    async def close(self) -> None:
        """Close a connection of the store's own; those of the caller stay open."""
        await self._close()

    async def __aenter__(self) -> Self:
        """Use the store in an `async with` block that closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the store."""
        await self.close()


AnyStore = TypeVar("AnyStore", Store, AsyncStore)


def any_store(store: AnyStore) -> AnyStore:
    """Return the store if it is one, of either kind.

    :raises InvalidInput: it is something else
    """
    if not isinstance(store, Store | AsyncStore):
        raise InvalidInput(f"store must be a Store or an AsyncStore, not {type(store).__name__}")
    return store


def of_kind(store: object, kind: type, instead: str) -> None:
    """Refuse a store of the other kind, where a type checker was not asked.

    :param instead: the words that it is used with
    :raises TypeError: it is of the other kind
    """
    if not isinstance(store, kind):
        raise TypeError(f"{type(store).__name__} takes `{instead}`")
