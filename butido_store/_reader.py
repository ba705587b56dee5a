"""A standby that answers what only reads, where it has all that its store wrote or saw."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import cast

from psycopg.errors import SerializationFailure

from butido_store._connection import Way
from butido_store._source import Own, OwnPool, Place
from butido_store._statement import Rows, Statement, read
from butido_store.errors import StoreError

_log = logging.getLogger("butido_store")
# For how long the primary answers alone, in seconds, after the reader gave no answer.
_REST = 30.0
_CONNECTING = 0.5
# libpq takes no shorter time to connect.
_SHORTEST, _LONGEST = 2, 10

# What has been written: where in the WAL it ends, and its timeline.
Position = tuple[str, str]


class Late(StoreError):
    """The reader has not replayed what this store wrote or saw."""


class Unfit(StoreError):
    """The reader is no standby, or of another timeline than the primary."""


def _position(rows: Rows) -> Position | None:
    lsn, timeline = rows[0]
    return None if lsn is None else (cast(str, lsn), cast(str, timeline))


POSITION = read("store/position", {}, _position)


def _reached(rows: Rows) -> None:
    is_standby, is_there = rows[0]
    if not is_standby:
        raise Unfit
    if not is_there:
        raise Late


class Reader:
    """Where a store reads, and since when its answers would be too old."""

    def __init__(
        self,
        way: Way,
        dsn: str,
        schema: str,
        prepare_threshold: int | None,
        wait: float,
        sizes: tuple[int, int] | None,
    ) -> None:
        """Say what it is; nothing is connected yet.

        :param wait: for how many seconds it is tried, or waited for, in a run
        :param sizes: those of the store's pool, or None for a single connection
        """
        silent_for = max(ceil(min(wait, _LONGEST)), _SHORTEST)
        own = Own(way, dsn, schema, prepare_threshold, silent_for)
        # At first, a pool has none to lend before it has connected.
        patience = max(wait, _CONNECTING)
        source = OwnPool(own, sizes=(0, sizes[1]), timeout=patience) if sizes else own
        self._source, self.place = source, Place(source, silent_for)
        self.wait = wait
        self._rests_until = 0.0
        # Stands for the last use of the primary; and the one that the position is known of. Each is
        # replaced as a whole, since threads share them.
        self._used: object = None
        self._known: tuple[object, Position | None] = None, None

    async def open(self) -> None:
        """Open its pool, if it has one; connections are made when they are wanted."""
        if isinstance(self._source, OwnPool):
            await self._source.open_unconnected()

    async def close(self) -> None:
        """Close its connection, or its pool."""
        await self._source.close()

    def used(self) -> None:
        """Note that the primary was used: what it wrote or showed has to be here from now on."""
        self._used = object()

    async def reached(
        self, ask: Callable[[], Awaitable[Sequence[Position | None]]]
    ) -> Statement[None] | None:
        """Return what tells whether the reader has all that it needs, to be run there first.

        :param ask: asks the primary for its position, which is done once after it was used
        :returns: a statement that raises `Late` or `Unfit`; None where it is not to be asked
        """
        if time.monotonic() < self._rests_until:
            return None
        used, (known, position) = self._used, self._known
        if known is not used:
            (position,) = await ask()
            if position is None:
                return None
            self._known = used, position
        lsn, timeline = position or (None, None)
        return read("store/replayed", {"lsn": lsn, "timeline": timeline}, _reached)

    def gave_none(self, error: StoreError) -> None:
        """Leave it alone for a while, unless only the query was in the way of its replay."""
        if not isinstance(error.__cause__, SerializationFailure):
            self._rests_until = time.monotonic() + _REST
            _log.warning("the primary answers for %.0f s in place of the reader: %s", _REST, error)
