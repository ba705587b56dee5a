"""Stores run statements: `Store` blocks, `AsyncStore` awaits."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing, suppress
from typing import Any, Self, TypeVar, overload

import psycopg

from butido_store import _check, _connection
from butido_store._body import RETRY_FOR, Body
from butido_store._connection import (
    AWAITING,
    BLOCKING,
    at_once,
    awaited,
    blocking,
    each_at_once,
)
from butido_store._reader import Reader
from butido_store._secrets import NO_KEY, Secrets
from butido_store._source import AsyncPool, Own, OwnPool, Pool
from butido_store._statement import Statement
from butido_store._target import DEFAULT_SCHEMA
from butido_store.errors import ConnectionFailed, InvalidInput, StoreError

AnyBody = TypeVar("AnyBody", bound=Body[Any])
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")

# So that what takes several is short.
S = Statement

READER_WAIT = 2.0
_SCHEMA_LENGTH = 63


def open_schema(connection: psycopg.Connection[object], schema: str = DEFAULT_SCHEMA) -> None:
    """Set a connection's search path to the schema and check what is found there.

    For connections of the caller's, and as `configure` of a psycopg_pool pool. Behind a pooler
    such as pgbouncer nothing is left in the session: a store then sets the search path in each
    transaction, and the connection's `prepare_threshold` becomes None.

    :param connection: an idle psycopg connection
    :param schema: name of the schema that holds the tables
    :raises InvalidInput: one of them is something else
    :raises SchemaMismatch: the database is not ready for this version
    :raises PermissionDenied: the role may not look at the schema
    :raises Unavailable: the link broke, or the server took longer than half a minute
    :raises StoreError: the connection is in a transaction
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
    :raises PermissionDenied: the role may not look at the schema
    :raises Unavailable: the link broke, or the server took longer than half a minute
    :raises StoreError: the connection is in a transaction
    """
    _check.instance("connection", connection, psycopg.AsyncConnection)
    await _connection.open_schema(connection, _schema(schema))


def _schema(name: str) -> str:
    # Bytes, of which PostgreSQL would cut off the rest.
    if len(_check.name("schema", name).encode()) > _SCHEMA_LENGTH:
        raise InvalidInput(f"schema has more than {_SCHEMA_LENGTH} bytes")
    return name


# Opening a store: class methods of the two kinds below -------------------------------------------


async def connect(
    cls: type[AnyBody],
    dsn: str | None = None,
    *,
    schema: str = DEFAULT_SCHEMA,
    retry_for: float = RETRY_FOR,
    timeout: float | None = None,
    prepare_threshold: int | None = 5,
    secrets: Secrets = NO_KEY,
    reader: str | None = None,
    reader_wait: float = READER_WAIT,
) -> AnyBody:
    """Open a store by DSN, by libpq's environment, or else on the embedded server.

    An `AsyncStore` is opened with `await`, or with `async with`, which closes it.

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
    :returns: the store, which closes its connection when it is closed
    :raises InvalidInput: a value cannot be used
    :raises ConnectionFailed: the server cannot be reached, or refuses the connection
    :raises EmbeddedServerError: the embedded server cannot be started
    :raises SchemaMismatch: the database is not ready for this version
    :raises PermissionDenied: the role may not look at the schema
    :raises Unavailable: the link broke while the schema was checked
    """
    return await _open(
        cls, None, dsn, schema, retry_for, timeout, prepare_threshold, secrets, reader, reader_wait
    )


async def pooled(
    cls: type[AnyBody],
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
) -> AnyBody:
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
    :returns: the store, which closes its pool when it is closed
    :raises InvalidInput: a value cannot be used
    :raises ConnectionFailed: the server cannot be reached, or refuses the connection
    :raises EmbeddedServerError: the embedded server cannot be started
    :raises SchemaMismatch: the database is not ready for this version
    :raises PermissionDenied: the role may not look at the schema
    :raises Unavailable: the link broke while the schema was checked
    :raises StoreError: psycopg_pool is not installed
    """
    sizes = _check.count("min_size", min_size), _check.count("max_size", max_size)
    return await _open(
        cls, sizes, dsn, schema, retry_for, timeout, prepare_threshold, secrets, reader, reader_wait
    )


async def _open(
    cls: type[AnyBody],
    sizes: tuple[int, int] | None,
    dsn: str | None,
    schema: str,
    retry_for: float,
    timeout: float | None,
    prepare_threshold: int | None,
    secrets: Secrets,
    reader: str | None,
    reader_wait: float,
) -> AnyBody:
    """Open a store on a connection of its own, or on a pool of these sizes."""
    for name, value in (("dsn", dsn), ("reader", reader)):
        if value is not None:
            _check.instance(name, value, str)
    _check.given(_check.count, "prepare_threshold", prepare_threshold)
    retry_for = _check.seconds("retry_for", retry_for)
    wait = _check.seconds("reader_wait", reader_wait)
    own = Own(cls._way, dsn, _schema(schema), prepare_threshold)
    # Whoever finds all busy waits, even if nothing is tried again.
    source = OwnPool(own, sizes=sizes, timeout=retry_for or RETRY_FOR) if sizes else own
    store = cls(source, retry_for=retry_for, timeout=timeout, secrets=secrets)
    if reader is not None:
        try:
            store._reader = Reader(cls._way, reader, schema, prepare_threshold, wait, sizes)
        except ConnectionFailed as error:
            # It is the reader's DSN that is wrong, not the other one.
            raise ConnectionFailed(f"reader: {error}") from error
    await store._open(source)
    return store


# The two kinds -----------------------------------------------------------------------------------


def _statements(given: tuple[Statement[object], ...]) -> tuple[Statement[object], ...]:
    for statement in given:
        if not isinstance(statement, Statement):
            raise InvalidInput(
                f"run takes statements, and a list of them as run(*statements); "
                f"it was given a {type(statement).__name__}"
            )
    return given


def _streamed(statement: Statement[list[A]]) -> Statement[list[A]]:
    if _check.instance("statement", statement, Statement).writes:
        raise InvalidInput("statement writes; a stream is of one that reads: give it to run")
    # What is made of no rows tells whether it is a list, and asks nobody.
    with suppress(StoreError):
        if isinstance(statement.collect([()] * len(statement.steps)), list):
            return statement
    raise InvalidInput("statement gives one value; a stream is of one that gives rows: run it")


class Store(Body[psycopg.Connection[object] | Pool]):
    """Runs statements on a connection of its own, or on a connection or pool of the caller's.

    On a connection of its own (`Store.connect`), or on a pool, it tries again when the database
    fails in a way that passes: a lost connection, a restart, a deadlock. Threads may share a
    store; on a single connection they take turns.
    """

    _way = BLOCKING

    connect = blocking(connect)
    pooled = blocking(pooled)

    @overload
    def run(self, a: S[A], /) -> A: ...
    @overload
    def run(self, a: S[A], b: S[B], /) -> tuple[A, B]: ...
    @overload
    def run(self, a: S[A], b: S[B], c: S[C], /) -> tuple[A, B, C]: ...
    @overload
    def run(self, a: S[A], b: S[B], c: S[C], d: S[D], /) -> tuple[A, B, C, D]: ...
    @overload
    def run(self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], /) -> tuple[A, B, C, D, E]: ...
    @overload
    def run(
        self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], f: S[F], /
    ) -> tuple[A, B, C, D, E, F]: ...
    @overload
    def run(
        self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], f: S[F], g: S[G], /
    ) -> tuple[A, B, C, D, E, F, G]: ...
    @overload
    def run(
        self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], f: S[F], g: S[G], h: S[H], /
    ) -> tuple[A, B, C, D, E, F, G, H]: ...
    @overload
    def run(self, *statements: S[A]) -> tuple[A, ...]: ...
    def run(self, *statements: S[object]) -> object:
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
        :param idle: seconds after which the server ends a stream not read on; None for never. In a
            transaction of the caller's it does not count
        :returns: the rows, one after the other
        :raises InvalidInput: at once, when it is none that reads rows, or the time is none
        :raises StoreError: while iterating, when the database fails
        """
        limit = _check.given(_check.seconds, "idle", idle)
        return _rows(self._pages(_streamed(statement), limit))

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


class AsyncStore(Body[psycopg.AsyncConnection[object] | AsyncPool]):
    """What `Store` is, awaited; tasks that share it on a single connection take turns."""

    _way = AWAITING

    connect = awaited(connect)
    pooled = awaited(pooled)

    @overload
    async def run(self, a: S[A], /) -> A: ...
    @overload
    async def run(self, a: S[A], b: S[B], /) -> tuple[A, B]: ...
    @overload
    async def run(self, a: S[A], b: S[B], c: S[C], /) -> tuple[A, B, C]: ...
    @overload
    async def run(self, a: S[A], b: S[B], c: S[C], d: S[D], /) -> tuple[A, B, C, D]: ...
    @overload
    async def run(self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], /) -> tuple[A, B, C, D, E]: ...
    @overload
    async def run(
        self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], f: S[F], /
    ) -> tuple[A, B, C, D, E, F]: ...
    @overload
    async def run(
        self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], f: S[F], g: S[G], /
    ) -> tuple[A, B, C, D, E, F, G]: ...
    @overload
    async def run(
        self, a: S[A], b: S[B], c: S[C], d: S[D], e: S[E], f: S[F], g: S[G], h: S[H], /
    ) -> tuple[A, B, C, D, E, F, G, H]: ...
    @overload
    async def run(self, *statements: S[A]) -> tuple[A, ...]: ...
    async def run(self, *statements: S[object]) -> object:
        """Run statements, as `Store.run` does: all of them happen, or none.

        :param statements: what to run, in this order
        :returns: the value of a single statement, else a tuple with the value of each
        :raises InvalidInput: at once, when one is no statement
        :raises StoreError: as each statement says, and `Unavailable` when time ran out
        """
        return await self._run(_statements(statements))

    def stream(
        self, statement: Statement[list[A]], *, idle: float | None = None
    ) -> AsyncGenerator[A, None]:
        """Run a statement that reads rows, and yield them as they come, as `Store.stream` does.

        :param statement: what to run
        :param idle: seconds after which the server ends a stream not read on; None for never. In a
            transaction of the caller's it does not count
        :returns: the rows, one after the other; `aclose()` closes a stream before its end
        :raises InvalidInput: at once, when it is none that reads rows, or the time is none
        :raises StoreError: while iterating, when the database fails
        """
        limit = _check.given(_check.seconds, "idle", idle)
        return _rows_awaited(self._pages(_streamed(statement), limit))

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
