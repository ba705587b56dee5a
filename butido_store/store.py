"""Stores run statements: `Store` blocks, `AsyncStore` awaits; both are a driver of a few lines."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    suppress,
)
from typing import Protocol, Self, TypeVar, cast, overload

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from butido_store._statement import Batch, Rows, Statement, conversation
from butido_store._target import DEFAULT_SCHEMA, Target, opening, refused
from butido_store.errors import (
    ConnectionFailed,
    EmbeddedServerError,
    StoreError,
    Unavailable,
    from_database,
)

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")

RETRY_FOR = 30.0
_CLOSED = "the store is closed"
_CURSOR, _FETCH = "butido_store", 1000
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0

_Talk = Generator[Batch, Sequence[Rows], R]
_Cursor = psycopg.RawCursor[tuple[object, ...]]
_AsyncCursor = psycopg.AsyncRawCursor[tuple[object, ...]]


# Shared by both stores ------------------------------------------------------------------------


def _delays(seconds: float) -> Iterator[float]:
    """Yield the waits between attempts: growing, spread, and ended by a deadline."""
    deadline = time.monotonic() + seconds
    longest = _FIRST_DELAY
    while True:
        delay = longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        if time.monotonic() + delay >= deadline:
            return
        yield delay
        longest = min(longest * 2, _LONGEST_DELAY)


def _next_delay(
    delays: Iterator[float], error: StoreError | psycopg.Error, *, retries: bool
) -> float:
    """Return how long to wait before the next attempt, or raise the error."""
    if isinstance(error, psycopg.Error):
        # A pool had no connection to lend; those of a statement are mapped where it runs.
        raise from_database(error, connection_lost=True) from error
    delay = next(delays, None) if retries and isinstance(error, Unavailable) else None
    if delay is None:
        raise error
    return delay


def _is_callers(connection: psycopg.Connection[object] | psycopg.AsyncConnection[object]) -> bool:
    """Tell whether what runs on this connection is part of a transaction of the caller's."""
    return (
        not connection.autocommit or connection.pgconn.transaction_status != TransactionStatus.IDLE
    )


class _Acknowledged:
    """Turns a commit that the standby did not confirm, of which the server warns, into an error.

    The end of a conversation passes through here as its StopIteration.
    """

    def __init__(
        self, connection: psycopg.Connection[object] | psycopg.AsyncConnection[object]
    ) -> None:
        self._connection = connection
        self._warning = ""

    def __enter__(self) -> None:
        self._connection.add_notice_handler(self._take)

    def __exit__(self, _: object, error: object, __: object) -> None:
        self._connection.remove_notice_handler(self._take)
        if isinstance(error, psycopg.Error):
            raise from_database(error, connection_lost=self._connection.closed) from error
        if self._warning and (error is None or isinstance(error, StopIteration)):
            raise Unavailable(f"the commit was not acknowledged: {self._warning}")

    def _take(self, notice: psycopg.errors.Diagnostic) -> None:
        # https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA
        if notice.source_function == "SyncRepWaitForLSN":
            self._warning = notice.message_primary or "the standby did not confirm it"


def _unpacked(results: tuple[object, ...]) -> object:
    return results[0] if len(results) == 1 else results


# Blocking -------------------------------------------------------------------------------------


def _converse(connection: psycopg.Connection[object], talk: _Talk[R], kept: list[_Cursor]) -> R:
    """Run each batch that the conversation yields, and send its rows back."""
    keep = _is_callers(connection)
    try:
        with _Acknowledged(connection):
            batch = next(talk)
            while True:
                try:
                    rows = _execute(connection, batch, kept)
                except psycopg.errors.UniqueViolation as error:
                    batch = talk.throw(error)
                else:
                    batch = talk.send(rows)
    except StopIteration as end:
        return cast(R, end.value)
    finally:
        if not keep and connection.pgconn.transaction_status != TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                connection.rollback()


def _ask(connection: psycopg.Connection[object], question: Statement[A], kept: list[_Cursor]) -> A:
    """Run a statement that only reads: one answer, and nothing to commit or to do again."""
    try:
        (rows,) = _execute(connection, [question], kept)
    except psycopg.Error as error:
        raise from_database(error, connection_lost=connection.closed) from error
    return question.collect(rows)


def _execute(
    connection: psycopg.Connection[object], batch: Batch, kept: list[_Cursor]
) -> list[Rows]:
    """Run statements in one round trip and return the rows of each."""
    if len(batch) == 1:
        # What a cursor has found out about types would take a new one a while. Threads share the
        # list: what one has popped is its own.
        try:
            cursor = kept.pop()
        except IndexError:
            cursor = None
        if cursor is None or cursor.connection is not connection:
            cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
        rows = _fetched(cursor.execute(*batch[0].rendered()))
        if _is_small(rows):
            kept.append(cursor)
        return [rows]
    cursors = [psycopg.RawCursor(connection, row_factory=tuple_row) for _ in batch]
    with connection.pipeline():
        for cursor, statement in zip(cursors, batch, strict=True):
            cursor.execute(*statement.rendered())
    return [_fetched(cursor) for cursor in cursors]


def _fetched(cursor: _Cursor) -> Rows:
    # A cursor without rows has no row number; its description would say so, too, but is costly.
    return [] if cursor.rownumber is None else cursor.fetchall()


def _is_small(rows: Rows) -> bool:
    """Tell whether a cursor may keep these rows' memory until its next use."""
    if len(rows) > 100:
        return False
    for row in rows:
        for value in row:
            if (isinstance(value, str | list) and len(value) > 65536) or isinstance(value, dict):
                return False
    return True


def open_schema(connection: psycopg.Connection[object], schema: str = DEFAULT_SCHEMA) -> None:
    """Set a connection's search path to the schema and check what is found there.

    For connections of the caller's, and as `configure` of a psycopg_pool pool.

    :param connection: an idle psycopg connection
    :param schema: name of the schema that holds the tables
    :raises SchemaMismatch: the database is not ready for this version
    """
    _converse(connection, opening(schema), [])
    if not connection.autocommit:
        connection.commit()


class Pool(Protocol):
    """What lends connections: a `psycopg_pool.ConnectionPool`, for instance."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[object]]:
        """Lend a connection for a `with` block."""


class _Callers:
    """A connection of the caller's, under the interface of a pool; threads take turns."""

    def __init__(self, connection: psycopg.Connection[object]) -> None:
        self._connection = connection
        self._lock = threading.RLock()

    def connection(self) -> Self:
        return self

    def __enter__(self) -> psycopg.Connection[object]:
        self._lock.acquire()
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Own(_Callers):
    """A connection that is opened again after it was lost."""

    def __init__(self, target: Target, schema: str, prepare_threshold: int | None) -> None:
        self._target = target
        self._schema = schema
        self._prepare_threshold = prepare_threshold
        self._closed = False
        target.__enter__()
        try:
            super().__init__(self._open())
        except BaseException:
            target.leave()
            raise

    def _open(self) -> psycopg.Connection[object]:
        try:
            connection = psycopg.connect(
                self._target.dsn, autocommit=True, prepare_threshold=self._prepare_threshold
            )
        except psycopg.Error as error:
            raise refused(error) from error
        try:
            open_schema(connection, self._schema)
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> psycopg.Connection[object]:
        connection = super().__enter__()
        if not connection.closed:
            return connection
        try:
            return self._again()
        except BaseException:
            self._lock.release()
            raise

    def _again(self) -> psycopg.Connection[object]:
        if self._closed:
            raise StoreError(_CLOSED)
        try:
            self._target.again()
            self._connection = self._open()
        except (ConnectionFailed, EmbeddedServerError) as error:
            raise Unavailable(str(error)) from error
        return self._connection

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._connection.close()
            self._target.leave()


class Store:
    """Runs statements on a connection of its own, or on a connection or pool of the caller's.

    On a connection of its own (`Store.connect`), or on a pool, it tries again when the database
    fails in a way that passes: a lost connection, a restart, a deadlock. Threads may share a
    store; on a single connection they take turns.
    """

    def __init__(
        self,
        source: psycopg.Connection[object] | Pool,
        *,
        retry_for: float = RETRY_FOR,
    ) -> None:
        """Use a connection or a pool of the caller's; `open_schema` sets its search path.

        What runs on a connection that is in a transaction, or not in autocommit mode, is part of
        the caller's transaction: it is neither committed, nor undone, nor tried again here.

        :param source: a psycopg connection or a psycopg_pool pool, of autocommit connections
        :param retry_for: on a pool, for how many seconds to try again while it is unavailable
        """
        self._source = _Callers(source) if isinstance(source, psycopg.Connection) else source
        self._retry_for = retry_for
        self._retries = not isinstance(source, psycopg.Connection)
        self._kept: list[_Cursor] = []

    @classmethod
    def connect(
        cls,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        retry_for: float = RETRY_FOR,
        prepare_threshold: int | None = 5,
    ) -> Self:
        """Open a store by DSN, by libpq's environment, or else on the embedded server.

        :param dsn: a libpq connection string or URI
        :param schema: name of the schema that holds the tables
        :param retry_for: for how many seconds to try again while the database is unavailable
        :param prepare_threshold: runs after which a statement is prepared; None behind a
            pgbouncer in transaction mode, where the role's own search_path has to name the schema
        :raises ConnectionFailed: the server cannot be reached, or refuses the connection
        :raises SchemaMismatch: the database is not ready for this version
        """
        return cls(_Own(Target(dsn), schema, prepare_threshold), retry_for=retry_for)

    @overload
    def run(self, a: Statement[A], /) -> A: ...
    @overload
    def run(self, a: Statement[A], b: Statement[B], /) -> tuple[A, B]: ...
    @overload
    def run(self, a: Statement[A], b: Statement[B], c: Statement[C], /) -> tuple[A, B, C]: ...
    @overload
    def run(self, *statements: Statement[object]) -> tuple[object, ...]: ...
    def run(self, *statements: Statement[object]) -> object:
        """Run statements, several writes in one transaction: all of them happen, or none.

        :param statements: what to run, in this order
        :returns: the value of a single statement, else a tuple with the value of each
        :raises StoreError: as each statement says, and `Unavailable` when time ran out
        """
        delays = _delays(self._retry_for)
        while True:
            try:
                with self._source.connection() as connection:
                    if len(statements) == 1 and not statements[0].writes:
                        return _ask(connection, statements[0], self._kept)
                    talk = conversation(statements, in_transaction=_is_callers(connection))
                    return _unpacked(_converse(connection, talk, self._kept))
            except (StoreError, psycopg.Error) as error:
                delay = _next_delay(delays, error, retries=self._retries)
            time.sleep(delay)

    def stream(self, statement: Statement[list[A]]) -> Generator[A, None, None]:
        """Run a statement that reads rows, and yield them as they come, however many there are.

        The connection is the iterator's until it ends or is closed; nothing is tried again.

        :param statement: what to run
        :returns: the rows, one after the other
        :raises StoreError: while iterating, when the database fails
        """
        with (
            self._source.connection() as connection,
            _Acknowledged(connection),
            connection.transaction(),
            psycopg.RawServerCursor(connection, _CURSOR, row_factory=tuple_row) as cursor,
        ):
            cursor.execute(*statement.rendered())
            while rows := cursor.fetchmany(_FETCH):
                yield from statement.collect(rows)

    def close(self) -> None:
        """Close a connection of the store's own; those of the caller stay open."""
        if isinstance(self._source, _Own):
            self._source.close()

    def __enter__(self) -> Self:
        """Use the store in a `with` block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()


# Awaiting: the same with `await` --------------------------------------------------------------


async def _converse_async(
    connection: psycopg.AsyncConnection[object], talk: _Talk[R], kept: list[_AsyncCursor]
) -> R:
    """Run each batch that the conversation yields, and send its rows back."""
    keep = _is_callers(connection)
    try:
        with _Acknowledged(connection):
            batch = next(talk)
            while True:
                try:
                    rows = await _execute_async(connection, batch, kept)
                except psycopg.errors.UniqueViolation as error:
                    batch = talk.throw(error)
                else:
                    batch = talk.send(rows)
    except StopIteration as end:
        return cast(R, end.value)
    finally:
        if not keep and connection.pgconn.transaction_status != TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                await connection.rollback()


async def _ask_async(
    connection: psycopg.AsyncConnection[object], question: Statement[A], kept: list[_AsyncCursor]
) -> A:
    """Run a statement that only reads, as `_ask` does."""
    try:
        (rows,) = await _execute_async(connection, [question], kept)
    except psycopg.Error as error:
        raise from_database(error, connection_lost=connection.closed) from error
    return question.collect(rows)


async def _execute_async(
    connection: psycopg.AsyncConnection[object], batch: Batch, kept: list[_AsyncCursor]
) -> list[Rows]:
    """Run statements in one round trip and return the rows of each."""
    if len(batch) == 1:
        cursor = kept.pop() if kept else None
        if cursor is None or cursor.connection is not connection:
            cursor = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)
        rows = await _fetched_async(await cursor.execute(*batch[0].rendered()))
        if _is_small(rows):
            kept.append(cursor)
        return [rows]
    cursors = [psycopg.AsyncRawCursor(connection, row_factory=tuple_row) for _ in batch]
    async with connection.pipeline():
        for cursor, statement in zip(cursors, batch, strict=True):
            await cursor.execute(*statement.rendered())
    return [await _fetched_async(cursor) for cursor in cursors]


async def _fetched_async(cursor: _AsyncCursor) -> Rows:
    return [] if cursor.rownumber is None else await cursor.fetchall()


async def open_schema_async(
    connection: psycopg.AsyncConnection[object], schema: str = DEFAULT_SCHEMA
) -> None:
    """Set a connection's search path to the schema and check what is found there.

    For connections of the caller's, and as `configure` of a psycopg_pool pool.

    :param connection: an idle psycopg connection
    :param schema: name of the schema that holds the tables
    :raises SchemaMismatch: the database is not ready for this version
    """
    await _converse_async(connection, opening(schema), [])
    if not connection.autocommit:
        await connection.commit()


class AsyncPool(Protocol):
    """What lends connections: a `psycopg_pool.AsyncConnectionPool`, for instance."""

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[object]]:
        """Lend a connection for an `async with` block."""


class _CallersAsync:
    """A connection of the caller's, under the interface of a pool; tasks take turns."""

    def __init__(self, connection: psycopg.AsyncConnection[object]) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    def connection(self) -> Self:
        return self

    async def __aenter__(self) -> psycopg.AsyncConnection[object]:
        await self._lock.acquire()
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class _OwnAsync(_CallersAsync):
    """A connection that is opened again after it was lost."""

    def __init__(self, target: Target, schema: str, prepare_threshold: int | None) -> None:
        self._target = target
        self._schema = schema
        self._prepare_threshold = prepare_threshold
        self._closed = False

    async def open(self) -> Self:
        await asyncio.to_thread(self._target.__enter__)
        try:
            super().__init__(await self._open())
        except BaseException:
            await asyncio.to_thread(self._target.leave)
            raise
        return self

    async def _open(self) -> psycopg.AsyncConnection[object]:
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._target.dsn, autocommit=True, prepare_threshold=self._prepare_threshold
            )
        except psycopg.Error as error:
            raise refused(error) from error
        try:
            await open_schema_async(connection, self._schema)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def __aenter__(self) -> psycopg.AsyncConnection[object]:
        connection = await super().__aenter__()
        if not connection.closed:
            return connection
        try:
            return await self._again()
        except BaseException:
            self._lock.release()
            raise

    async def _again(self) -> psycopg.AsyncConnection[object]:
        if self._closed:
            raise StoreError(_CLOSED)
        try:
            await asyncio.to_thread(self._target.again)
            self._connection = await self._open()
        except (ConnectionFailed, EmbeddedServerError) as error:
            raise Unavailable(str(error)) from error
        return self._connection

    async def close(self) -> None:
        async with self._lock:
            self._closed = True
            await self._connection.close()
            await asyncio.to_thread(self._target.leave)


class AsyncStore:
    """What `Store` is, awaited; tasks that share it on a single connection take turns."""

    def __init__(
        self,
        source: psycopg.AsyncConnection[object] | AsyncPool,
        *,
        retry_for: float = RETRY_FOR,
    ) -> None:
        """Use a connection or a pool of the caller's, as `Store` does."""
        self._source = (
            _CallersAsync(source) if isinstance(source, psycopg.AsyncConnection) else source
        )
        self._retry_for = retry_for
        self._retries = not isinstance(source, psycopg.AsyncConnection)
        self._kept: list[_AsyncCursor] = []

    @classmethod
    async def connect(
        cls,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        retry_for: float = RETRY_FOR,
        prepare_threshold: int | None = 5,
    ) -> Self:
        """Open a store by DSN, by libpq's environment, or else on the embedded server.

        :param dsn: a libpq connection string or URI
        :param schema: name of the schema that holds the tables
        :param retry_for: for how many seconds to try again while the database is unavailable
        :param prepare_threshold: runs after which a statement is prepared; None behind a
            pgbouncer in transaction mode, where the role's own search_path has to name the schema
        :raises ConnectionFailed: the server cannot be reached, or refuses the connection
        :raises SchemaMismatch: the database is not ready for this version
        """
        own = _OwnAsync(Target(dsn), schema, prepare_threshold)
        return cls(await own.open(), retry_for=retry_for)

    @overload
    async def run(self, a: Statement[A], /) -> A: ...
    @overload
    async def run(self, a: Statement[A], b: Statement[B], /) -> tuple[A, B]: ...
    @overload
    async def run(self, a: Statement[A], b: Statement[B], c: Statement[C], /) -> tuple[A, B, C]: ...
    @overload
    async def run(self, *statements: Statement[object]) -> tuple[object, ...]: ...
    async def run(self, *statements: Statement[object]) -> object:
        """Run statements, several writes in one transaction: all of them happen, or none.

        :param statements: what to run, in this order
        :returns: the value of a single statement, else a tuple with the value of each
        :raises StoreError: as each statement says, and `Unavailable` when time ran out
        """
        delays = _delays(self._retry_for)
        while True:
            try:
                async with self._source.connection() as connection:
                    if len(statements) == 1 and not statements[0].writes:
                        return await _ask_async(connection, statements[0], self._kept)
                    talk = conversation(statements, in_transaction=_is_callers(connection))
                    return _unpacked(await _converse_async(connection, talk, self._kept))
            except (StoreError, psycopg.Error) as error:
                delay = _next_delay(delays, error, retries=self._retries)
            await asyncio.sleep(delay)

    async def stream(self, statement: Statement[list[A]]) -> AsyncGenerator[A, None]:
        """Run a statement that reads rows, and yield them as they come, as `Store.stream` does."""
        async with self._source.connection() as connection:
            with _Acknowledged(connection):
                async with (
                    connection.transaction(),
                    psycopg.AsyncRawServerCursor(
                        connection, _CURSOR, row_factory=tuple_row
                    ) as cursor,
                ):
                    await cursor.execute(*statement.rendered())
                    while rows := await cursor.fetchmany(_FETCH):
                        for row in statement.collect(rows):
                            yield row

    async def close(self) -> None:
        """Close a connection of the store's own; those of the caller stay open."""
        if isinstance(self._source, _OwnAsync):
            await self._source.close()

    async def __aenter__(self) -> Self:
        """Use the store in an `async with` block that closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the store."""
        await self.close()
