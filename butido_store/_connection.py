"""Connections, blocking or awaiting: how a conversation runs on one, and where one comes from.

All of it is written once, in coroutines. On an `AsyncConnection` they are awaited. On a blocking
connection each call has its answer at once, so that they never stop on the way.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast
from weakref import WeakSet

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from butido_store._statement import Batch, Conversation, Rows, Step, step
from butido_store._target import Target, opening, refused
from butido_store.errors import (
    ConnectionFailed,
    EmbeddedServerError,
    StoreError,
    Unavailable,
    from_database,
)

A = TypeVar("A")
Connection = psycopg.Connection[object] | psycopg.AsyncConnection[object]
Cursor = psycopg.RawCursor[tuple[object, ...]] | psycopg.AsyncRawCursor[tuple[object, ...]]


# Blocking and awaiting ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """What differs between the two: psycopg's classes, locks, and how to wait."""

    connect: Callable[..., Any]
    cursor: Callable[..., Any]
    server_cursor: Callable[..., Any]
    lock: Callable[[], Any]
    sleep: Callable[[float], Awaitable[None] | None]
    call: Callable[[Callable[[], Any]], Any]


BLOCKING = Way(
    psycopg.Connection.connect,
    psycopg.RawCursor,
    psycopg.RawServerCursor,
    threading.RLock,
    time.sleep,
    lambda function: function(),
)
AWAITING = Way(
    psycopg.AsyncConnection.connect,
    psycopg.AsyncRawCursor,
    psycopg.AsyncRawServerCursor,
    asyncio.Lock,
    asyncio.sleep,
    asyncio.to_thread,
)


def way_of(connection: Connection) -> Way:
    """Return which of the two a connection is."""
    return BLOCKING if isinstance(connection, psycopg.Connection) else AWAITING


async def done(answer: Awaitable[A] | A) -> A:
    """Return an answer: the one that is there already, or the one that has to be awaited."""
    # Not isinstance of Awaitable, which takes four times as long.
    return cast(A, await answer if hasattr(answer, "__await__") else answer)


class _Entered:
    """A context manager of the blocking kind, for `async with`."""

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        return self._manager.__enter__()

    async def __aexit__(self, *error: Any) -> bool | None:
        return self._manager.__exit__(*error)


def within(manager: Any) -> AbstractAsyncContextManager[Any]:
    """Return a context manager of either kind for `async with`."""
    return manager if hasattr(manager, "__aenter__") else _Entered(manager)


def at_once(work: Coroutine[Any, Any, A]) -> A:
    """Run a coroutine that never has to wait, since all that it awaits is there at once."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(A, end.value)
    raise AssertionError("a blocking store does not wait")


# A conversation on a connection ---------------------------------------------------------------


def in_callers_transaction(connection: Connection) -> bool:
    """Tell whether what runs on this connection is part of a transaction of the caller's."""
    return (
        not connection.autocommit or connection.pgconn.transaction_status != TransactionStatus.IDLE
    )


@contextmanager
def acknowledged(connection: Connection) -> Iterator[None]:
    """Map errors of the database, and make one of a warning: the standby did not confirm a commit.

    :raises StoreError: by SQLSTATE; `Unavailable` for the warning
    """
    warnings: list[str] = []

    def take(notice: psycopg.errors.Diagnostic) -> None:
        # https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA
        if notice.source_function == "SyncRepWaitForLSN":
            warnings.append(notice.message_primary or "the standby did not confirm it")

    connection.add_notice_handler(take)
    try:
        yield
    except psycopg.Error as error:
        raise from_database(error, connection_lost=connection.closed) from error
    finally:
        connection.remove_notice_handler(take)
    if warnings:
        raise Unavailable(f"the commit was not acknowledged: {warnings[0]}")


async def converse(connection: Connection, talk: Conversation[A], kept: list[Cursor]) -> A:
    """Run each batch that the conversation yields, send its rows back, and return what it returns.

    :param kept: cursors to use again, and where used ones are put
    :raises StoreError: as the conversation says, or by SQLSTATE
    """
    callers = in_callers_transaction(connection)
    try:
        with acknowledged(connection):
            try:
                batch = next(talk)
                while True:
                    try:
                        rows = await _execute(connection, batch, kept)
                    except psycopg.Error as error:
                        if connection.closed:
                            raise
                        batch = talk.throw(error)
                    else:
                        batch = talk.send(rows)
            except StopIteration as end:
                return cast(A, end.value)
    finally:
        if not callers and connection.pgconn.transaction_status != TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                await done(connection.rollback())


# Connections on which psycopg may take a statement for prepared although it is not: one before it
# in the pipeline failed, which cut off its preparation.
_unsure = WeakSet[Connection]()
# Prepared each time, so that psycopg looks at what it did, and forgets as the server does.
_DEALLOCATE = step("store/deallocate", {}, prepare=True)


async def _execute(connection: Connection, batch: Batch, kept: list[Cursor]) -> list[Rows]:
    """Run steps in one round trip and one transaction, and return the rows of each."""
    status = connection.pgconn.transaction_status
    if connection in _unsure and status in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
        await _sent(_cursor(connection, []), _DEALLOCATE)
        _unsure.discard(connection)
    cursors = [_cursor(connection, kept) for _ in batch]
    if len(batch) == 1:
        await _sent(cursors[0], batch[0])
    else:
        await _pipelined(connection, cursors, batch)
    answers = list[Rows]()
    for cursor in cursors:
        # A step without rows has no row number; description says the same and costs 28 µs.
        answers.append([] if cursor.rownumber is None else await done(cursor.fetchall()))
    # The last one is taken first: each step gets the cursor that it had before.
    for cursor, rows in zip(reversed(cursors), reversed(answers), strict=True):
        if _is_small(rows):
            kept.append(cursor)
    return answers


async def _pipelined(connection: Connection, cursors: Sequence[Cursor], batch: Batch) -> None:
    """Send steps in one round trip, and raise the first error."""
    failed: psycopg.Error | None = None
    try:
        async with within(connection.pipeline()):
            try:
                for cursor, one in zip(cursors, batch, strict=True):
                    await _sent(cursor, one)
            except psycopg.Error as error:
                # If it left the pipeline, psycopg would log what follows from it.
                failed = error
        if failed:
            raise failed
    except BaseException as error:
        if connection.prepare_threshold is not None:
            _unsure.add(connection)
        if failed and isinstance(error, psycopg.Error):
            raise failed from None
        raise


def _cursor(connection: Connection, kept: list[Cursor]) -> Cursor:
    """Return a cursor, a used one if there is one: a new one finds out about types anew, 13 µs."""
    # Threads share the list: what one has popped is its own.
    with suppress(IndexError):
        while True:
            cursor = kept.pop()
            if cursor.connection is connection:
                return cursor
    return cast(Cursor, way_of(connection).cursor(connection, row_factory=tuple_row))


async def _sent(cursor: Cursor, one: Step) -> None:
    answer: Any = cursor.execute(*one.rendered(), prepare=one.prepare)
    await done(answer)


def _is_small(rows: Rows) -> bool:
    """Tell whether a cursor may keep these rows' memory until its next use."""
    if len(rows) > 100:
        return False
    for row in rows:
        for value in row:
            if (isinstance(value, str | list) and len(value) > 65536) or isinstance(value, dict):
                return False
    return True


async def open_schema(connection: Connection, schema: str) -> None:
    """Set the search path of an idle connection to the schema, and check what is found there."""
    await converse(connection, opening(schema), [])
    if not connection.autocommit:
        await done(connection.commit())


# Where connections come from ------------------------------------------------------------------


class Single:
    """A single connection, the caller's, lent as a pool lends; threads or tasks take turns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = way_of(connection).lock()
        self._streams = False

    def connection(self) -> Self:
        """Return what lends the connection, to be entered, as a pool's method of this name does."""
        return self

    async def __aenter__(self) -> Connection:
        await done(self._lock.acquire())
        try:
            return await self._alive()
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()

    async def _alive(self) -> Connection:
        if self._streams:
            raise StoreError(
                "a stream has this connection until it ends or is closed; "
                "a store of its own connection, or on a pool, can do both at once"
            )
        return self._connection

    @asynccontextmanager
    async def apart(self) -> AsyncGenerator[Connection, None]:
        """Lend the connection to a stream: nothing else uses it meanwhile, and no lock is held."""
        async with self as connection:
            self._streams = True
        try:
            yield connection
        finally:
            self._streams = False


class Own(Single):
    """A connection of the store's own, opened again after it was lost, and more for streams."""

    def __init__(
        self, way: Way, dsn: str | None, schema: str, prepare_threshold: int | None
    ) -> None:
        self._way = way
        self._target = Target(dsn)
        self._schema = schema
        self._prepare_threshold = prepare_threshold
        self._closed = False

    async def open(self) -> Self:
        """Connect, with the embedded server running if it is the one.

        :raises StoreError: the server cannot be reached, or the database is not ready
        """
        await done(self._way.call(self._target.__enter__))
        try:
            super().__init__(await self.connected())
        except BaseException:
            await done(self._way.call(self._target.leave))
            raise
        return self

    async def connected(self) -> Connection:
        """Open one more connection."""
        try:
            connection: Connection = await done(
                self._way.connect(
                    self._target.dsn, autocommit=True, prepare_threshold=self._prepare_threshold
                )
            )
        except psycopg.Error as error:
            raise refused(error) from error
        try:
            await open_schema(connection, self._schema)
        except BaseException:
            await done(connection.close())
            raise
        return connection

    async def _alive(self) -> Connection:
        if self._closed:
            raise StoreError("the store is closed")
        if not self._connection.closed:
            return self._connection
        try:
            await done(self._way.call(self._target.again))
            self._connection = await self.connected()
        except (ConnectionFailed, EmbeddedServerError) as error:
            raise Unavailable(str(error)) from error
        return self._connection

    @asynccontextmanager
    async def apart(self) -> AsyncGenerator[Connection, None]:
        """Lend one more connection to a stream."""
        # The embedded server may have to be started again first.
        async with self:
            connection = await self.connected()
        try:
            yield connection
        finally:
            await done(connection.close())

    async def close(self) -> None:
        """Close the connection, once whoever uses it is done, and leave the embedded server."""
        await done(self._lock.acquire())
        try:
            self._closed = True
            await done(self._connection.close())
            await done(self._way.call(self._target.leave))
        finally:
            self._lock.release()
