"""A connection, blocking or awaiting, and how a conversation runs on it.

All of it is written once, in coroutines. On an `AsyncConnection` they are awaited. On a blocking
connection each call has its answer at once, so that they never stop on the way.
"""

import asyncio
import os
import threading
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    nullcontext,
)
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus

from butido_store._conversation import Batch, Conversation
from butido_store._pipeline import ADAPTERS, Connection, done, execute
from butido_store._secrets import NO_KEY, Secrets
from butido_store._statement import Rows
from butido_store._target import Lent, opening
from butido_store._watch import Watched
from butido_store.errors import SchemaMismatch, StoreError, Unavailable, from_database

_END = object()
A = TypeVar("A")
P = ParamSpec("P")
Entered = TypeVar("Entered", bound=AbstractAsyncContextManager[Any])


# Blocking and awaiting ------------------------------------------------------------------------


class _OwnAdapters:
    """Has rows loaded as psycopg does by default, whatever the caller registered."""

    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS


class _ServerCursor(_OwnAdapters, psycopg.RawServerCursor[Any]):
    pass


class _AsyncServerCursor(_OwnAdapters, psycopg.AsyncRawServerCursor[Any]):
    pass


class _Nobody:
    """The turn of tasks where there are only threads."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


NOBODY = _Nobody()


async def _to_its_end(function: Callable[[], A]) -> A:
    """Run in a thread, and be cancelled only when that is done, since a thread cannot be."""
    task = asyncio.ensure_future(asyncio.to_thread(function))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        task.exception()  # Or asyncio would say that nobody asked for it.
        raise cancelled
    return task.result()


@dataclass(frozen=True, slots=True)
class Way:
    """What differs between the two: psycopg's classes, and how to wait.

    Of the two turns one is taken by threads, in a plain `with`, which no exception of a signal
    handler can come between; the other one by tasks.
    """

    connect: Callable[..., Any]
    server_cursor: Callable[..., Any]
    lock: Callable[[], Any]
    turn: Callable[[], AbstractContextManager[Any]]
    task_turn: Callable[[], AbstractAsyncContextManager[Any]]
    sleep: Callable[[float], Awaitable[None] | None]
    call: Callable[[Callable[[], Any]], Any]


BLOCKING = Way(
    psycopg.Connection.connect,
    _ServerCursor,
    threading.RLock,
    threading.RLock,
    lambda: NOBODY,
    time.sleep,
    lambda function: function(),
)
AWAITING = Way(
    psycopg.AsyncConnection.connect,
    _AsyncServerCursor,
    asyncio.Lock,
    nullcontext,
    asyncio.Lock,
    asyncio.sleep,
    _to_its_end,
)


def way_of(connection: Connection) -> Way:
    """Return which of the two a connection is."""
    return BLOCKING if isinstance(connection, psycopg.Connection) else AWAITING


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


def each_at_once(work: AsyncGenerator[A, None]) -> Generator[A, None, None]:
    """Yield what a generator yields that never has to wait."""
    try:
        while (value := at_once(anext(work, _END))) is not _END:
            yield cast(A, value)
    finally:
        at_once(work.aclose())


class Opening(Coroutine[Any, Any, Entered], AbstractAsyncContextManager[Entered]):
    """What is being opened: to be awaited, or entered at once by `async with`, which closes it."""

    def __init__(self, opening: Coroutine[Any, Any, Entered]) -> None:
        self._opening = opening

    def __await__(self) -> Generator[Any, Any, Entered]:
        return self._opening.__await__()

    async def __aenter__(self) -> Entered:
        self._opened = await self._opening
        return cast(Entered, await self._opened.__aenter__())

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._opened.__aexit__(*error)

    # `asyncio.run` and `create_task` take nothing less than a coroutine.

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine does."""
        return self._opening.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where it waits, as a coroutine does."""
        return self._opening.throw(*error)

    def close(self) -> None:
        """End it, as a coroutine does."""
        self._opening.close()


class _Opens(Protocol[P]):
    """A class method that opens a store of the class, as type checkers see it."""

    def __get__(self, _: object, kind: type[A]) -> Callable[P, A]: ...


class _OpensAwaited(Protocol[P]):
    """A class method whose store is to be awaited, or entered."""

    def __get__(self, _: object, kind: type[Entered]) -> Callable[P, Opening[Entered]]: ...


_Opener = Callable[Concatenate[Any, P], Coroutine[Any, Any, Any]]


def blocking(opens: _Opener[P]) -> _Opens[P]:
    """Make a class method of what opens a store: one that blocks."""
    return cast(_Opens[P], _of_class(opens, at_once, Self))


def awaited(opens: _Opener[P]) -> _OpensAwaited[P]:
    """Make a class method of what opens a store: one that is awaited, or entered."""
    return cast(_OpensAwaited[P], _of_class(opens, Opening, cast(Any, Opening)[Self]))


def _of_class(opens: Callable[..., Any], run: Callable[[Any], Any], opened: object) -> object:
    """Make a class method.

    :param opens: what it does, a coroutine whose first parameter is the class
    :param run: runs that coroutine
    :param opened: the annotation of what `run` returns, for `help`
    """

    @wraps(opens)
    def method(*given: Any, **named: Any) -> Any:
        return run(opens(*given, **named))

    shown = signature(opens)
    of_class, *others = shown.parameters.values()
    vars(method)["__signature__"] = shown.replace(
        parameters=[of_class.replace(annotation=Parameter.empty), *others],
        return_annotation=opened,
    )
    method.__annotations__ = {one.name: one.annotation for one in others} | {"return": opened}
    return classmethod(method)


# A conversation on a connection ---------------------------------------------------------------


def in_callers_transaction(connection: Connection) -> bool:
    """Tell whether what runs on this connection is part of a transaction of the caller's."""
    return (
        not connection.autocommit or connection.pgconn.transaction_status != TransactionStatus.IDLE
    )


def _is_read_only(connection: Connection) -> bool:
    """Tell whether a setting makes the session read-only, and not that the server is a standby."""
    settings = map(
        connection.info.parameter_status, ("default_transaction_read_only", "in_hot_standby")
    )
    return [*settings] == ["on", "off"]


class Acknowledged:
    """A `with` block that maps errors of the database, and makes one of a commit that is in doubt.

    The database only warns where a standby did not confirm the commit.
    """

    __slots__ = ("_connection", "_warning")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._warning: str | None = None

    def _take(self, notice: psycopg.errors.Diagnostic) -> None:
        # https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA
        if notice.source_function == "SyncRepWaitForLSN":
            self._warning = notice.message_primary or "the standby did not confirm it"

    def __enter__(self) -> None:
        """Listen to what the server says."""
        self._connection.add_notice_handler(self._take)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Map an error.

        :raises StoreError: by SQLSTATE; `Unavailable` for the warning
        """
        self._connection.remove_notice_handler(self._take)
        if isinstance(error, psycopg.Error):
            lost = self._connection.closed
            read_only = not lost and _is_read_only(self._connection)
            raise from_database(error, connection_lost=lost, read_only=read_only) from error
        if self._warning and error is None:
            raise Unavailable(f"the commit was not acknowledged: {self._warning}")


async def converse(connection: Connection, talk: Conversation[A], secrets: Secrets = NO_KEY) -> A:
    """Run each batch that the conversation yields, send its rows back, and return what it returns.

    :param secrets: what is sent of them are digests
    :raises StoreError: as the conversation says, or by SQLSTATE
    """
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise StoreError(
            "the connection is in a pipeline; a store sends what it is given to run together in "
            "one of its own, so leave that one first"
        )
    callers, known = in_callers_transaction(connection), False
    try:
        with Acknowledged(connection):
            try:
                batch = next(talk)
                while True:
                    try:
                        rows = await _execute(connection, batch, secrets)
                    except psycopg.Error as error:
                        if connection.closed:
                            raise
                        batch = talk.throw(error)
                    else:
                        batch = talk.send(rows)
            except StopIteration as end:
                known = True
                return cast(A, end.value)
    except StoreError:
        # What was refused has been undone.
        known = True
        raise
    finally:
        idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if not (known and (callers or idle)):
            cut(connection)


def cut(connection: Connection) -> None:
    """Close a connection that nobody knows the state of; an open transaction has no effect.

    An exception can come at any moment, from a signal handler or a cancellation, and leave the
    driver in the midst of something. A pool replaces the connection when it gets it back.
    """
    connection.pgconn.finish()


def cut_if_busy(connection: Connection) -> None:
    """Close a connection that a stream has left in the midst of a statement."""
    pgconn = connection.pgconn
    if (
        pgconn.transaction_status == TransactionStatus.ACTIVE
        or pgconn.pipeline_status != PipelineStatus.OFF
    ):
        cut(connection)


def leave_to_parent(connection: Connection) -> None:
    """Close a fork's child's part of its parent's connection, and have nothing reach the server."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, connection.pgconn.socket)
    os.close(nowhere)
    cut(connection)


# Connections through a pooler, with the steps that make the session that it lends.
_lent = WeakKeyDictionary[Connection, Lent]()


async def _execute(connection: Connection, batch: Batch, secrets: Secrets) -> list[Rows]:
    """Run steps in one round trip and one transaction, and return the rows of each."""
    status = connection.pgconn.transaction_status
    # In a transaction that has failed it cannot run, and nothing can that looks at a table.
    lent = _lent.get(connection) if status != TransactionStatus.INERROR else None
    if not lent:
        return await execute(connection, batch, secrets)
    session = lent.begin if status == TransactionStatus.IDLE else lent.go_on
    return (await execute(connection, [session, *batch], secrets))[1:]


async def begin(connection: Connection, *, callers: bool) -> None:
    """Make the session the library's where a pooler lends one, in a transaction that has begun.

    :param callers: the transaction is the caller's, and what it set for itself stays
    """
    if lent := _lent.get(connection):
        await execute(connection, [lent.go_on if callers else lent.begin])


# For how long the server may take to say what it has, in seconds.
_OPENING = 30.0
# Why the connections of a pool were refused: the pool itself only logs it, and tries for ever.
refused_by_pool = WeakKeyDictionary[object, SchemaMismatch]()


async def open_schema(connection: Connection, schema: str) -> None:
    """Set up an idle connection for the schema, and check what is found there.

    :raises StoreError: it is not idle, or what is there does not fit, or is not told in time
    """
    if connection.pgconn.transaction_status == TransactionStatus.INTRANS:
        raise StoreError("the connection is in a transaction; open_schema takes an idle one")
    _lent.pop(connection, None)
    pool = getattr(connection, "_pool", None)
    # None tells of a pooler, even of one that passes on the server's process ids.
    pid = 0 if connection.prepare_threshold is None else connection.info.backend_pid
    cut_at = time.monotonic() + _OPENING
    # A pool has few threads that open connections, and one that hangs would open no more.
    with Watched(connection, silent_for=_OPENING, cut_at=cut_at):
        try:
            lent = await converse(connection, opening(schema, pid))
        except SchemaMismatch as error:
            if pool is not None:
                refused_by_pool[pool] = error
            raise
        if not connection.autocommit:
            await done(connection.commit())
    if lent:
        connection.prepare_threshold = None
        _lent[connection] = lent
    if pool is not None:
        refused_by_pool.pop(pool, None)
