"""What both stores do: they run statements, again where that helps, and stream what these read."""

import os
import random
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Generic, TypeVar, cast

import psycopg
from psycopg.rows import tuple_row

from butido_store import _check, _connection, _reader
from butido_store._connection import BLOCKING, Way, within
from butido_store._conversation import DENIED, conversation, denied
from butido_store._pipeline import check_encoding, done, execute
from butido_store._reader import Late, Reader, Unfit
from butido_store._secrets import NO_KEY, Secrets
from butido_store._source import Own, OwnPool, Place, Pooled, Single
from butido_store._statement import Statement, step
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
Source = TypeVar("Source")

RETRY_FOR = 30.0
_FETCH = 1000
_DELAYS = 0.05, 2.0
# A standby is mostly a few milliseconds behind.
_READER_DELAYS = 0.002, 0.1
_SILENT_FOR = 10.0
# What the server takes for a limit, in milliseconds.
_MOST_IDLE = 2**31 - 1
# Another attempt would be in vain, and the primary may have another answer.
_UNREAD = (ConnectionFailed, SchemaMismatch, Unfit)


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


class Body(Generic[Source]):
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
        the caller's transaction: the store neither commits it nor tries it again. What is refused
        is undone, and the transaction goes on.

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
        lends = source if isinstance(source, Single | Pooled) else self._callers(source)
        seconds = _check.seconds("retry_for", retry_for)
        self._retry_for = seconds if isinstance(lends, Own | Pooled) else 0.0
        self._timeout = _check.given(_check.seconds, "timeout", timeout)
        self._secrets = _check.instance("secrets", secrets, Secrets)
        # A silent server is found out in time to try another one.
        self._primary = Place(lends, self._retry_for / 3 or _SILENT_FOR)
        self._reader: Reader | None = None
        self._process = os.getpid()

    def _callers(self, source: Source) -> Single | Pooled:
        is_connection = isinstance(source, psycopg.Connection | psycopg.AsyncConnection)
        lends = is_connection or callable(getattr(source, "connection", None))
        # Connections and pools of one kind are entered by `with`, of the other by `async with`.
        kinds = [hasattr(source, name) for name in ("__enter__", "__aenter__")]
        right, wrong = kinds if self._way is BLOCKING else reversed(kinds)
        if not lends or (wrong and not right):
            kind = f"{type(source).__module__}.{type(source).__name__}"
            raise InvalidInput(
                f"{type(self).__name__} takes no {kind}: give it a connection of psycopg's, or a "
                f"pool, that {'blocks' if self._way is BLOCKING else 'is awaited'}"
            )
        return Single(cast(Any, source)) if is_connection else Pooled(cast(Any, source))

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
            try:
                values = await self._repeat(statements, cut_at)
            finally:
                self._used_primary()
        return values[0] if len(statements) == 1 else tuple(values)

    def _used_primary(self) -> None:
        if self._reader:
            self._reader.used()

    async def _repeat(
        self, statements: tuple[Statement[Any], ...], cut_at: float | None
    ) -> Sequence[Any]:
        """Run statements on the primary, again while it is unavailable."""
        delays = _delays(self._retry_for, cut_at, _DELAYS)
        while True:
            try:
                return await self._attempt(statements, cut_at, self._primary)
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
                _, *values = await self._attempt((check, *asked), cut_at, reader.place)
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
        place: Place,
    ) -> Sequence[Any]:
        self._check_process()
        source = place.source
        with source.turn:
            async with source.task_turn, source.connection() as connection:
                in_transaction = _connection.in_callers_transaction(connection)
                talk = conversation(statements, in_transaction=in_transaction)
                with Watched(connection, silent_for=place.silent_for, cut_at=cut_at):
                    return await _connection.converse(connection, talk, self._secrets)

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
                async with aclosing(self._rows_of(statement, idle, reader.place, check)) as pages:
                    async for page in pages:
                        given = True
                        yield page
                return
            except NotFound:
                if given:
                    raise
            except (Late, Unavailable, *_UNREAD) as error:
                if given:
                    raise
                reader.gave_none(error)
        try:
            async with aclosing(self._rows_of(statement, idle, self._primary)) as pages:
                async for page in pages:
                    yield page
        finally:
            self._used_primary()

    async def _rows_of(
        self,
        statement: Statement[list[A]],
        idle: float | None,
        place: Place,
        check: Statement[None] | None = None,
    ) -> AsyncGenerator[list[A], None]:
        """Yield the pages that come of the reader, or of the primary.

        :param check: raises an error where the reader should not be asked
        """
        (asked,) = statement.steps
        sent = asked.rendered(self._secrets)
        async with place.source.apart() as connection:
            if check:
                talk = conversation((check,), in_transaction=False)
                with Watched(connection, silent_for=place.silent_for, cut_at=None):
                    await _connection.converse(connection, talk)
            check_encoding(connection.pgconn)
            callers = _connection.in_callers_transaction(connection)
            # Named after the report, so that the server's statistics tell it from others.
            cursor = self._way.server_cursor(connection, asked.query.name, row_factory=tuple_row)
            with (
                Watched(connection, silent_for=place.silent_for, cut_at=None),
                _connection.Acknowledged(connection),
            ):
                try:
                    async with within(connection.transaction()), within(cursor):
                        try:
                            await _connection.begin(connection, callers=callers)
                            # The caller's own transaction would keep it.
                            if idle is not None and not callers:
                                limit = {"milliseconds": min(int(idle * 1000), _MOST_IDLE)}
                                await execute(connection, [step("store/limit_idle", limit)])
                            await done(cursor.execute(*sent, binary=True))
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

    async def _open(self, source: Own | OwnPool) -> None:
        await source.open()
        try:
            if self._reader:
                await self._reader.open()
        except BaseException:
            await source.close()
            raise

    async def _close(self) -> None:
        source = self._primary.source
        # A fork's child has the store, too, and leaves it to the process that opened it.
        if isinstance(source, Own | OwnPool) and os.getpid() == self._process:
            try:
                await source.close()
            finally:
                if self._reader:
                    await self._reader.close()
