"""Where connections come from: the caller's, a pool's, or the store's own."""

import threading
from collections.abc import AsyncGenerator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast
from weakref import WeakSet

import psycopg
from psycopg.pq import TransactionStatus

from butido_store._connection import (
    BLOCKING,
    NOBODY,
    Way,
    at_once,
    cut,
    open_schema,
    refused_by_pool,
    way_of,
    within,
)
from butido_store._pipeline import Connection, done
from butido_store._target import Target, refused
from butido_store.errors import (
    ConnectionFailed,
    EmbeddedServerError,
    InvalidInput,
    StoreError,
    Unavailable,
    from_database,
)

# The connections of callers that a stream has: several stores may use one.
_streaming = WeakSet[Connection]()


class _Loan:
    """A connection that is lent for an `async with` block."""

    def __init__(self, source: "Single") -> None:
        self._source = source

    async def __aenter__(self) -> Connection:
        self._connection = await self._source.take()
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        self._source.give(self._connection)


class Single:
    """A single connection, the caller's; threads or tasks take turns."""

    # Whose turn it is: a thread that comes again is one that a signal has interrupted.
    _taker: int | None = None

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._take_turns(way_of(connection))

    def _take_turns(self, way: Way) -> None:
        self.turn, self.task_turn = way.turn(), way.task_turn()

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend the connection to whose turn it is."""
        return _Loan(self)

    async def take(self) -> Connection:
        """Return the connection."""
        if self._connection in _streaming:
            raise StoreError(
                "a stream has this connection until it ends or is closed; "
                "a store of its own connection, or on a pool, can do both at once"
            )
        if self._connection is None or self._connection.closed:
            raise ConnectionFailed(
                "the connection is closed: by the caller, by the server, or since an exception "
                "came in the midst of a statement; open another one, and a store on it"
            )
        status, thread = self._connection.pgconn.transaction_status, threading.get_ident()
        if status == TransactionStatus.ACTIVE and self._taker == thread:
            raise StoreError(
                "this connection is in the midst of a run, which a signal handler has interrupted; "
                "a store of its own connection, or on a pool, can run in one"
            )
        self._taker = thread
        return self._connection

    def give(self, connection: Connection) -> None:
        """Take the connection back."""
        self._taker = None

    @asynccontextmanager
    async def apart(self) -> AsyncGenerator[Connection, None]:
        """Lend the connection to a stream: nothing else uses it meanwhile, and no turn is held."""
        mine = False
        try:
            with self.turn:
                async with self.task_turn:
                    connection = await self.take()
                    mine = True
                    _streaming.add(connection)
            yield connection
        finally:
            if mine:
                _streaming.discard(connection)


class Own(Single):
    """A connection of the store's own, opened again after it was lost, and more for streams."""

    def __init__(
        self,
        way: Way,
        dsn: str | None,
        schema: str,
        prepare_threshold: int | None,
        connect_timeout: int | None = None,
    ) -> None:
        self.way = way
        self._target = Target(dsn)
        self.schema = schema
        self._prepare_threshold = prepare_threshold
        self._connect_timeout = connect_timeout
        # None while it is lent, and after an exception came before it was given back.
        self._connection = None
        self._closed = False
        self._reviving = way.lock()
        self._take_turns(way)

    @property
    def dsn(self) -> str:
        """What its connections are made with."""
        return self._target.dsn

    @property
    def parameters(self) -> dict[str, Any]:
        """What its connections are made with beside the DSN."""
        timeouts = self._target.timeouts
        if self._connect_timeout is not None and "connect_timeout" in timeouts:
            timeouts["connect_timeout"] = self._connect_timeout
        return {"autocommit": True, "prepare_threshold": self._prepare_threshold, **timeouts}

    async def open(self) -> Self:
        """Connect, with the embedded server running if it is the one.

        :raises StoreError: the server cannot be reached, or the database is not ready
        """
        try:
            await done(self.way.call(self._target.__enter__))
            self._connection = await self.connected()
        except BaseException:
            await done(self.way.call(self._target.leave))
            raise
        return self

    async def connected(self) -> Connection:
        """Open one more connection."""
        try:
            connection: Connection = await done(self.way.connect(self.dsn, **self.parameters))
        except psycopg.Error as error:
            raise refused(error) from error
        try:
            await open_schema(connection, self.schema)
        except BaseException:
            cut(connection)
            raise
        return connection

    async def take(self) -> Connection:
        """Return the connection, or another one if it was lost.

        :raises Unavailable: there is none to be had
        """
        if self._closed:
            raise StoreError("the store is closed")
        connection, self._connection = self._connection, None
        if connection is not None and not connection.closed:
            return connection
        try:
            return await self._revived()
        except (ConnectionFailed, EmbeddedServerError) as error:
            raise Unavailable(str(error)) from error

    def give(self, connection: Connection) -> None:
        """Keep the connection for the next one; a run in a signal handler may have brought one."""
        if self._closed or self._connection is not None:
            cut(connection)
        else:
            self._connection = connection

    async def rest(self) -> None:
        """Close the connection until it is needed again."""
        if self._connection is not None:
            cut(self._connection)

    async def revive(self) -> None:
        """Start the embedded server again, if it is the one and is not there.

        :raises Unavailable: it could not be started
        """
        if self._target.server:
            async with within(self._reviving):
                try:
                    cut(await self._revived())
                except (ConnectionFailed, EmbeddedServerError) as error:
                    raise Unavailable(str(error)) from error

    async def _revived(self) -> Connection:
        try:
            return await self.connected()
        except ConnectionFailed:
            if not self._target.server:
                raise
        await done(self.way.call(self._target.again))
        return await self.connected()

    @asynccontextmanager
    async def apart(self) -> AsyncGenerator[Connection, None]:
        """Lend one more connection to a stream."""
        # The embedded server may have to be started again first.
        with self.turn:
            async with self.task_turn, self.connection():
                connection = await self.connected()
        try:
            yield connection
        finally:
            cut(connection)

    async def close(self) -> None:
        """Close the connection, once whoever uses it is done, and leave the embedded server."""
        try:
            with self.turn:
                async with self.task_turn:
                    self._closed = True
        finally:
            self._closed = True
            if self._connection is not None:
                cut(self._connection)
            await done(self.way.call(self._target.leave))


@dataclass(frozen=True, slots=True)
class Place:
    """Where statements are run, and after how many seconds of silence it counts as gone."""

    source: "Single | Pooled"
    silent_for: float


class Pool(Protocol):
    """What lends connections: a `psycopg_pool.ConnectionPool`, for instance."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[object]]:
        """Lend a connection for a `with` block."""


class AsyncPool(Protocol):
    """What lends connections: a `psycopg_pool.AsyncConnectionPool`, for instance."""

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[object]]:
        """Lend a connection for an `async with` block."""


class Pooled:
    """A pool, the caller's; nobody has to wait for a turn."""

    def __init__(self, pool: Pool | AsyncPool) -> None:
        self._pool = pool
        self.turn, self.task_turn = nullcontext(), NOBODY

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        """Lend one of the pool's connections.

        :raises Unavailable: the pool had none to lend in its time
        :raises StoreError: the pool is closed, or its connections were refused by `open_schema`
        """
        lent = False
        try:
            async with within(self._pool.connection()) as connection:
                lent = True
                # Else the pool would commit, and nobody would see a standby's warning.
                plain = not connection.autocommit
                if plain:
                    await done(connection.set_autocommit(True))
                try:
                    yield connection
                finally:
                    if plain and connection.pgconn.transaction_status == TransactionStatus.IDLE:
                        await done(connection.set_autocommit(False))
        except psycopg.Error as error:
            # Those of a statement are mapped where it runs.
            if getattr(self._pool, "closed", False):
                raise StoreError("the pool is closed") from error
            if why := refused_by_pool.get(self._pool):
                raise type(why)(str(why)) from error
            if not lent and not error.sqlstate:
                raise Unavailable(f"the pool had no connection to lend: {error}") from error
            raise from_database(error, connection_lost=True) from error

    def apart(self) -> AbstractAsyncContextManager[Connection]:
        """Lend one of the pool's connections to a stream."""
        return self.connection()


class OwnPool(Pooled):
    """A pool of the store's own, whose connections are like that of `Own`."""

    def __init__(self, own: Own, *, sizes: tuple[int, int], timeout: float) -> None:
        self._own = own
        self._sizes = sizes
        self._timeout = timeout
        self._closed = False

    async def open(self) -> Self:
        """Connect once, so that what is wrong is said at once, and open the pool.

        :raises StoreError: psycopg_pool is missing, or as `Own.open` says
        """
        self._make(300.0)
        await self._own.open()
        try:
            await self._own.rest()
            await done(cast(Any, self._pool).open())
        except BaseException:
            await self.close()
            raise
        return self

    async def open_unconnected(self) -> Self:
        """Open the pool; its connections are made, and tried, when they are wanted.

        :raises StoreError: psycopg_pool is missing
        """
        # Else the pool goes on trying, at growing intervals, and who wants one waits for that.
        self._make(self._timeout)
        await done(cast(Any, self._pool).open())
        return self

    def _make(self, reconnect_timeout: float) -> None:
        try:
            import psycopg_pool
        except ImportError as error:
            raise StoreError(
                "a pool needs psycopg_pool; run: pip install 'butido_store[pool]'"
            ) from error

        async def configure(connection: Connection) -> None:
            await open_schema(connection, self._own.schema)

        blocking = self._own.way is BLOCKING
        kind: Any = psycopg_pool.ConnectionPool if blocking else psycopg_pool.AsyncConnectionPool
        try:
            pool = kind(
                self._own.dsn,
                open=False,
                kwargs=self._own.parameters,
                configure=(lambda one: at_once(configure(one))) if blocking else configure,
                timeout=self._timeout,
                reconnect_timeout=reconnect_timeout,
                min_size=self._sizes[0],
                max_size=self._sizes[1],
            )
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        super().__init__(pool)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        """Lend one of the pool's connections, as `Pooled` does."""
        if self._closed:
            raise StoreError("the store is closed")
        lost = False
        try:
            async with super().connection() as connection:
                try:
                    yield connection
                except Unavailable:
                    lost = connection.closed
                    raise
        finally:
            if lost and not self._closed:
                await self._own.revive()

    async def close(self) -> None:
        """Close the pool, and leave the embedded server."""
        self._closed = True
        try:
            await done(cast(Any, self._pool).close())
        finally:
            await self._own.close()
