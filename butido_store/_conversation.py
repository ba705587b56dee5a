"""How statements are run: the conversation with the database, without the I/O."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import NoReturn, TypeVar, cast

import psycopg
from psycopg.errors import (
    ForeignKeyViolation,
    InsufficientPrivilege,
    UndefinedFunction,
    UndefinedTable,
    UniqueViolation,
)

from butido_store._query import privileges, query
from butido_store._secrets import Each
from butido_store._statement import CONFIRM, Key, Row, Rows, Statement, Step, Unwritten, step
from butido_store.errors import StoreError, Unavailable, from_privileges

A = TypeVar("A")
Batch = Sequence[Step]
Conversation = Generator[Batch, Sequence[Rows], A]

# The first attempt finds what is missing, the second has it; each further one means that somebody
# added or deleted the same values in between.
_ATTEMPTS = 5

# Not prepared: there is nothing to plan.
BEGIN, _COMMIT, _ROLLBACK, _SAVEPOINT, _RELEASE, _ROLLBACK_TO = (
    step(f"store/{verb}", {}, prepare=False)
    for verb in ("begin", "commit", "rollback", "savepoint", "release", "rollback_to")
)


def conversation(
    statements: Sequence[Statement[object]], *, in_transaction: bool
) -> Conversation[tuple[object, ...]]:
    """Run statements together: each yielded batch is one round trip, its rows are sent back.

    Several writes share a transaction, so that all or none of them happen. An error of the
    database is thrown in where the batch was yielded.

    :param statements: what to run
    :param in_transaction: the caller has a transaction open: what is refused is undone to here, and
        the transaction goes on
    :returns: the collected value of each statement
    :raises StoreError: a statement was refused; nothing of all of them is kept, but names and
        variables that others may have, too
    """
    try:
        return (yield from _all_or_none(statements, in_transaction=in_transaction))
    except DENIED as error:
        raise (yield from denied(error, _queries(statements))) from error


# Somebody else wrote the same meanwhile, or removed what is referred to.
_MEANWHILE = (UniqueViolation, ForeignKeyViolation)
# Without USAGE on a schema, nothing in it is found.
DENIED = (InsufficientPrivilege, UndefinedFunction, UndefinedTable)


def denied(
    error: psycopg.Error, queries: Iterable[str], schema: str | None = None
) -> Conversation[StoreError]:
    """Ask which privileges the role lacks, after an error that may come of that.

    :param error: what psycopg raised
    :param queries: names of the queries that were to run
    :param schema: name of the schema, where the search path is not set yet
    :returns: the error to raise `from` the one given
    """
    rows: Rows = []
    # In a transaction of the caller's that has failed by now, nothing can be asked.
    with suppress(psycopg.Error):
        (rows,) = yield [lacked(queries, schema)]
    return from_privileges(error, rows)


def lacked(queries: Iterable[str], schema: str | None = None) -> Step:
    """Make the step that asks which privileges the role lacks for these queries."""
    needed = sorted(frozenset[tuple[str, str]]().union(*map(privileges, queries)))
    return step(
        "store/denied",
        {
            "privileges": [privilege for privilege, _ in needed],
            "names": [name for _, name in needed],
            "schema": schema,
        },
    )


def _queries(statements: Sequence[Statement[object]]) -> set[str]:
    """Return the queries that statements may run, also to ask why and to add what is missing."""
    names: set[str] = set()
    for statement in statements:
        asked = statement.why().steps if statement.why else ()
        names |= {one.query.name for one in (*statement.steps, *asked)}
        if tables := {table for table, *_ in statement.shared()}:
            # The variables of an environment come with it.
            tables |= {"envvar"} if "environment" in tables else set()
            names |= {"store/missing"}
            names |= {name for name in _INTERN if name.partition("/")[0] in tables}
    return names


def _all_or_none(
    statements: Sequence[Statement[object]], *, in_transaction: bool
) -> Conversation[tuple[object, ...]]:
    """Run statements together, as `conversation` does."""
    if not any(statement.writes for statement in statements):
        return (yield from _together(statements, nested=in_transaction))
    if len(statements) == 1:
        return ((yield from _one(statements[0], nested=in_transaction)),)
    begin, commit = (_SAVEPOINT, _RELEASE) if in_transaction else (BEGIN, _COMMIT)
    undo = _UNDO if in_transaction else (_ROLLBACK,)
    # A second time where shared values were missing, which are then there.
    for _ in range(2):
        try:
            values = yield from _together(statements, begin)
        except (Unwritten, *_MEANWHILE):
            yield from _undone(undo)
        except (StoreError, psycopg.Error):
            yield from _undone(undo)
            raise
        else:
            yield [commit]
            return values
        outcomes, missing = yield from _ask_why(statements)
        # One may be refused for lack of what an earlier one would have written.
        with suppress(Unwritten, StoreError):
            return tuple(outcome() for outcome in outcomes)
        if not missing:
            break
        yield from _kept(_intern(missing), nested=in_transaction)
    # One after the other, so that each sees what those before it wrote when it asks for its why.
    yield [begin]
    try:
        one_by_one: list[object] = []
        for statement in statements:
            one_by_one.append((yield from _one(statement, nested=True)))
    except (StoreError, psycopg.Error):
        yield from _undone(undo)
        raise
    yield [commit]
    return tuple(one_by_one)


_UNDO = (_ROLLBACK_TO, _RELEASE)


def _undone(undo: Batch) -> Conversation[None]:
    """Undo what a batch did."""
    # In a transaction that had failed before, there is nothing to undo, and the error says so.
    with suppress(psycopg.Error):
        yield undo


def _kept(steps: Batch, *, nested: bool) -> Conversation[Sequence[Rows]]:
    """Run steps; in a transaction, which goes on when they fail, undo what they did."""
    if not nested:
        return (yield steps)
    try:
        return (yield [_SAVEPOINT, *steps, _RELEASE])[1:-1]
    except psycopg.Error as error:
        # Without one it is of the client, which cannot load the answer to what has been done.
        if error.sqlstate:
            yield from _undone(_UNDO)
        raise


def _together(
    statements: Sequence[Statement[object]], *before: Step, nested: bool = False
) -> Conversation[tuple[object, ...]]:
    """Run all steps in one round trip, and collect."""
    steps = [*before, *(one for each in statements for one in each.steps)]
    answers = yield from _kept(steps, nested=nested)
    rest = iter(answers[len(before) :])
    return tuple(each.collect(list(islice(rest, len(each.steps)))) for each in statements)


def _one(statement: Statement[A], *, nested: bool) -> Conversation[A]:
    """Run one statement until it is written, was written before, or is refused."""
    violated: set[str | None] = set()
    for _ in range(_ATTEMPTS):
        try:
            answers = yield from _kept(statement.steps, nested=nested and statement.writes)
            return statement.collect(answers)
        except Unwritten:
            pass
        except _MEANWHILE as error:
            # The same key again: not somebody who wrote, or removed, the same in this moment.
            if error.diag.message_detail in violated:
                raise
            violated.add(error.diag.message_detail)
        (outcome,), missing = yield from _ask_why([statement])
        try:
            return outcome()
        except Unwritten as end:
            statement = end.instead or statement
        if missing:
            yield from _kept(_intern(missing), nested=nested)
    raise Unavailable("other writers kept changing the same records; try again later")


def _ask_why(
    statements: Sequence[Statement[A]],
) -> Conversation[tuple[list[Callable[[], A]], Mapping[str, list[Row]]]]:
    """Ask why nothing was written, and which shared values are missing.

    :returns: for each statement what gives its value, where it had been written before, or raises
        why it is refused, or Unwritten where nothing speaks against another attempt; and the keys
        of what is missing by table
    """
    whys = [one.why() if one.why else _UNKNOWN if one.writes else one for one in statements]
    shared = sorted(frozenset[Key]().union(*(one.shared() for one in statements)))
    columns = {
        name: Each(tuple(key[place] for key in shared))
        for place, name in enumerate(("subjects", "names", "values"))
    }
    ask = [step("store/missing", columns)] if shared else []
    answers = yield [*ask, *(one for why in whys for one in why.steps), CONFIRM]
    missing: dict[str, list[Row]] = {}
    for table, *texts in (row for rows in answers[: len(ask)] for row in rows):
        missing.setdefault(cast(str, table), []).append(tuple(texts))
    rest = iter(answers[len(ask) :])
    return [partial(why.collect, list(islice(rest, len(why.steps)))) for why in whys], missing


def _nobody_knows(_: Sequence[Rows]) -> NoReturn:
    """Raise what leads to another attempt, for a write that cannot be asked why."""
    raise Unwritten


_UNKNOWN: Statement[NoReturn] = Statement((), _nobody_knows)


# Always in this order, so that writers do not wait for each other in a ring; what others refer to
# comes first.
_INTERN = (
    "endpoint/intern",
    "envvar/intern",
    "environment/intern",
    "environment/intern_variables",
    "git_hash/intern",
    "image/intern",
    "package/intern",
    "release_store/intern",
)


def _intern(missing: Mapping[str, list[Row]]) -> list[Step]:
    """Make the steps that add shared values: the file's parameters are an array for each column."""
    return [
        step(name, dict(zip(query(name).types, map(list, zip(*keys, strict=True)), strict=False)))
        for name in _INTERN
        if (keys := missing.get(name.partition("/")[0]))
    ]
