"""What guards the writes, each taken away: whoever looks for faults has to find those.

`MUTANTS` has a context manager of each. A client takes one by name, and `test_guards.py` plays a
few acts with each.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from butido_store import _connection, _conversation, _source, _statement, job
from butido_store._pipeline import Connection
from butido_store._query import parse
from butido_store._statement import Step
from butido_store.errors import NotRunning, from_database

_NOTHING = "-- Nothing.\n\nSELECT 1 AS one\nORDER BY one;\n"


@contextmanager
def _without(*steps: Step) -> Iterator[None]:
    """Have steps that do nothing, wherever they are used."""
    before = [step.query for step in steps]
    for step in steps:
        nothing = parse(step.query.name, _NOTHING, Path(step.query.name))
        object.__setattr__(step, "query", nothing)
    try:
        yield
    finally:
        for step, query in zip(steps, before, strict=True):
            object.__setattr__(step, "query", query)


@contextmanager
def _unheard(connection: Connection) -> Iterator[None]:
    """Map errors, and take no notice of the warning that a standby did not confirm a commit."""
    try:
        yield
    except psycopg.Error as error:
        raise from_database(error, connection_lost=connection.closed) from error


@asynccontextmanager
async def _in_turn(self: Any) -> AsyncGenerator[Connection, None]:
    """Lend a stream its connection, and keep the turn until it ends."""
    with self.turn:
        async with self.task_turn, self.connection():
            connection = await self.connected()
            try:
                yield connection
            finally:
                _connection.cut(connection)


def _never(rows: list[Any]) -> None:
    raise NotRunning(f"job {rows[0].uuid} has ended")


def _step_without(name: str) -> Callable[..., Step]:
    """Return a maker of steps, of which that of this name does nothing."""
    nothing = parse(name, _NOTHING, Path(name))

    def step(asked: str, parameters: Mapping[str, object], **rest: Any) -> Step:
        if asked == name:
            return Step(nothing, {})
        return _statement.step(asked, parameters, **rest)

    return step


MUTANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no WAL is written on retry": lambda: _without(_statement.CONFIRM),
    "a standby's warning is not heard": lambda: patch.object(_connection, "Acknowledged", _unheard),
    "no savepoint in the caller's transaction": lambda: _without(
        _conversation._SAVEPOINT, _conversation._RELEASE, _conversation._ROLLBACK_TO
    ),
    "several statements in no transaction": lambda: _without(
        _conversation.BEGIN, _conversation._COMMIT, _conversation._ROLLBACK
    ),
    "a lock is held over a stream's yield": lambda: patch.object(_source.Own, "apart", _in_turn),
    "a repeated end is refused": lambda: patch.object(job, "_ended", _never),
    "chunks stay when a job ends": lambda: patch.object(
        job, "step", _step_without("job/delete_chunks")
    ),
    "outputs are added to whatever job is there": lambda: patch.object(
        job, "_now", lambda: "2026-11-23T12:00:00+00:00"
    ),
}
