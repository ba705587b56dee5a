"""What is run, as values, and the conversation with the database that runs them; no I/O here."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from psycopg.errors import UniqueViolation

from butido_store._query import Query, query
from butido_store.errors import Conflict, NotFound, NotRunning, StoreError, Unavailable

T_co = TypeVar("T_co", covariant=True)
Row = tuple[object, ...]
Rows = Sequence[Row]

# One attempt finds what is missing, the next has it; each further one means that somebody
# interned or deleted the same values in between.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Shared:
    """Natural keys of the shared values that a statement needs to be in the store.

    An environment is a JSON text, whose variables are needed, too.
    """

    environment: frozenset[str] = frozenset()
    package: frozenset[tuple[str, str]] = frozenset()
    image: frozenset[str] = frozenset()
    endpoint: frozenset[str] = frozenset()
    git_hash: frozenset[str] = frozenset()
    release_store: frozenset[str] = frozenset()

    def __or__(self, other: "Shared") -> "Shared":
        """Return what either needs."""
        return Shared(
            self.environment | other.environment,
            self.package | other.package,
            self.image | other.image,
            self.endpoint | other.endpoint,
            self.git_hash | other.git_hash,
            self.release_store | other.release_store,
        )


class Incomplete(Exception):
    """A shared value is not in the store yet, so nothing was written."""


@dataclass(frozen=True, slots=True)
class Statement(Generic[T_co]):
    """A query with its parameters, and how its rows become a value: run it with a store.

    Every statement of this library can be run again: it then gives the same and changes nothing,
    so a lost connection is answered by that. (A heartbeat does not outlive its job, so it does not
    belong into one transaction with the job's end.)
    """

    query: Query
    parameters: Mapping[str, object]
    collect: Callable[[Rows], T_co]
    writes: bool = False
    # Asked for only when the statement finds that something is missing, which is rare.
    shared: Callable[[], Shared] = Shared
    # What to run instead, and take the value of, where this gave no row.
    otherwise: "Callable[[], Statement[T_co]] | None" = None

    def rendered(self) -> tuple[bytes, list[object]]:
        """Return the SQL text and its parameters in order, as `psycopg.RawCursor` takes them."""
        return self.query.render(frozenset(self.parameters)).bind(self.parameters)


def read(
    name: str, parameters: Mapping[str, object], collect: Callable[[Rows], T_co]
) -> Statement[T_co]:
    """Make a statement that reads; parameters that are None count as not given."""
    given = {key: value for key, value in parameters.items() if value is not None}
    return Statement(query(name), given, collect)


def write(
    name: str,
    parameters: Mapping[str, object],
    collect: Callable[[Rows], T_co],
    *,
    shared: Callable[[], Shared] = Shared,
    otherwise: Callable[[], Statement[T_co]] | None = None,
) -> Statement[T_co]:
    """Make a statement that writes; parameters that are None count as not given."""
    given = {key: value for key, value in parameters.items() if value is not None}
    return Statement(query(name), given, collect, writes=True, shared=shared, otherwise=otherwise)


def refuse(outcome: object, subject: str, uuid: UUID) -> StoreError | Incomplete:
    """Return the error for the outcome of a write that did not happen.

    :param outcome: the word in the row that the statement returned
    :param subject: `job` or `submit`
    :param uuid: its uuid
    """
    match outcome:
        case "incomplete" | "running":
            return Incomplete()
        case "differs":
            return Conflict(f"{subject} {uuid} is in the store already, with other content")
        case "no job" | "no submit":
            return NotFound(f"there is no {str(outcome)[3:]} {uuid} in the store")
        case "success" | "error" | "lost":
            return NotRunning(f"job {uuid} has ended: its state is {outcome}")
        case _:
            return StoreError(f"unexpected outcome {outcome!r} for {subject} {uuid}")


def _nothing(_: Rows) -> None:
    return None


def _control(verb: str) -> Statement[None]:
    return Statement(query(f"store/{verb}"), {}, _nothing)


def _ask_missing(shared: Shared) -> Statement[dict[object, list[Row]]]:
    def by_subject(rows: Rows) -> dict[object, list[Row]]:
        found: dict[object, list[Row]] = {}
        for subject, *key in rows:
            found.setdefault(subject, []).append(tuple(key))
        return found

    packages = sorted(shared.package)
    return Statement(
        query("store/missing"),
        {
            "environments": sorted(shared.environment),
            "package_names": [name for name, _ in packages],
            "package_versions": [version for _, version in packages],
            "images": sorted(shared.image),
            "endpoints": sorted(shared.endpoint),
            "hashes": sorted(shared.git_hash),
            "release_stores": sorted(shared.release_store),
        },
        by_subject,
    )


def _intern(missing: Mapping[object, list[Row]]) -> list[Statement[None]]:
    """Make the statements that add what is missing, subjects always in the same order."""
    columns = {
        "endpoint": ("names",),
        "envvar": ("names", "values"),
        # Its variables have to be there.
        "environment": ("environments",),
        "git_hash": ("hashes",),
        "image": ("names",),
        "package": ("names", "versions"),
        "release_store": ("names",),
    }
    return [
        Statement(
            query(f"{subject}/intern"),
            {name: [key[place] for key in missing[subject]] for place, name in enumerate(names)},
            _nothing,
        )
        for subject, names in columns.items()
        if subject in missing
    ]


def _shared(statements: "Batch") -> Shared:
    """Return what any of the statements needs to be in the store."""
    shared = Shared()
    for statement in statements:
        shared |= statement.shared()
    return shared


def _add_missing(shared: Shared) -> "Generator[Batch, Sequence[Rows], bool]":
    """Ask which shared values are missing, add those, and tell whether there were any."""
    ask = _ask_missing(shared)
    missing = ask.collect((yield [ask])[0])
    if missing:
        yield _intern(missing)
    return bool(missing)


Batch = Sequence[Statement[object]]
Conversation = Generator[Batch, Sequence[Rows], tuple[object, ...]]


def conversation(statements: Batch, *, in_transaction: bool) -> Conversation:
    """Run statements together: each yielded batch is one round trip, its rows are sent back.

    Several writes share a transaction, so that all or none of them happen. When one of them
    lacks shared values, the transaction is undone, what is missing is asked for and added in
    sorted order, and all run again.

    :param statements: what to run
    :param in_transaction: the caller has a transaction open; none is begun or ended here
    :returns: the collected value of each statement
    :raises StoreError: a statement was refused; nothing of the batch is kept
    """
    together = len(statements) > 1 and any(s.writes for s in statements)
    own = together and not in_transaction
    if together and in_transaction:
        # There is nothing to undo the first statements with when a later one lacks a value.
        statements = [s.otherwise() if s.otherwise else s for s in statements]
        if (shared := _shared(statements)) != Shared():
            yield from _add_missing(shared)
    looked_again = False
    for _ in range(_ATTEMPTS):
        batch = [_control("begin"), *statements] if own else statements
        refused: StoreError | None = None
        unanswered: list[int] = []
        results: tuple[object, ...] = ()
        try:
            answers = (yield batch)[-len(statements) :]
            unanswered = [
                place
                for place, rows in enumerate(answers)
                if not rows and statements[place].otherwise is not None
            ]
            if not unanswered:
                results = tuple(
                    statement.collect(rows)
                    for statement, rows in zip(statements, answers, strict=True)
                )
        except UniqueViolation:
            # Somebody else wrote the same uuid in this moment: look again, at what is there.
            if in_transaction or looked_again:
                raise
            looked_again = True
            if own:
                yield [_control("rollback")]
            continue
        except Incomplete:
            pass
        except StoreError as error:
            refused = error
        else:
            if not unanswered:
                if own:
                    yield [_control("commit")]
                return results
        if own:
            yield [_control("rollback")]
        if isinstance(refused, Conflict) and not looked_again:
            # The statement's snapshot may be older than what a concurrent writer has done:
            # only a second look tells a repetition from a difference.
            looked_again = True
            continue
        if refused is not None:
            raise refused
        added = yield from _add_missing(_shared(statements))
        if unanswered and not added:
            # Each in its own place, so that what comes after it sees what it wrote.
            statements = [
                s.otherwise() if place in unanswered and s.otherwise else s
                for place, s in enumerate(statements)
            ]
    raise Unavailable("other writers kept changing the same records; try again later")
