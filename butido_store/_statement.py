"""What is run, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from butido_store._query import Query, query
from butido_store._secrets import NO_KEY, Concealing, Environment, Secrets
from butido_store.errors import NotFound

R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
Row = tuple[object, ...]
Rows = Sequence[Row]
# The natural key of a shared value: its table, and one or two texts, or an environment.
Key = tuple[str, str | Environment, str]


class Unwritten(Exception):
    """A write found nothing to write to, or lacked something, so it wrote nothing."""

    def __init__(self, instead: "Statement[Any] | None" = None) -> None:
        """Say what to run at the next attempt, if not the same again."""
        self.instead = instead


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """A query with its parameters: one message to the server."""

    query: Query
    parameters: Mapping[str, object]
    # Whether it may be prepared, where it is run often.
    prepare: bool = True

    def rendered(self, secrets: Secrets = NO_KEY) -> tuple[bytes, list[object]]:
        """Return the SQL text and its parameters in order, as PostgreSQL takes them.

        :param secrets: digests stand in place of what these hide
        :raises InvalidInput: there is a secret, and no key
        """
        text, values = self.query.render(frozenset(self.parameters)).bind(self.parameters)
        return text, [
            value.told(secrets) if isinstance(value, Concealing) else value for value in values
        ]

    def __repr__(self) -> str:
        """Name the query; its parameters may be secrets, or long."""
        return f"<Step {self.query.name}>"


@dataclass(frozen=True, slots=True, repr=False)
class Statement(Generic[T_co]):
    """What is to be read or written, and the type of what comes of it: run it with a store.

    Its steps go to the server in one round trip and one transaction.

    Every statement of this library is safe to retry, which a store does where the connection was
    lost: what is there already with the same content stays as it is, and counts as written.
    """

    steps: tuple[Step, ...]
    # Makes the value from the rows of each step; raises Unwritten where nothing was written.
    collect: Callable[[Sequence[Rows]], T_co]
    writes: bool = False
    # The shared values that it refers to. Looked for only after nothing was written, which is rare.
    shared: Callable[[], frozenset[Key]] = frozenset
    # Asked then, too: gives the value of a write that is repeated, raises why it is refused, or
    # raises Unwritten where nothing speaks against another attempt.
    why: "Callable[[], Statement[T_co]] | None" = None
    # It reads what a write hangs on: from the primary, since a standby may not have it yet.
    decides: bool = False

    def __repr__(self) -> str:
        """Name the queries; their parameters may be secrets, or long."""
        return f"<Statement {', '.join(step.query.name for step in self.steps)}>"


def step(name: str, parameters: Mapping[str, object], *, prepare: bool = True) -> Step:
    """Make a step of the query of this name; parameters that are None count as not given."""
    if None in parameters.values():
        parameters = {key: value for key, value in parameters.items() if value is not None}
    return Step(query(name), parameters, prepare)


def read(
    name: str,
    parameters: Mapping[str, object],
    collect: Callable[[Rows], T_co],
    *,
    decides: bool = False,
) -> Statement[T_co]:
    """Make a statement that reads; parameters that are None count as not given."""
    steps = (step(name, parameters),)
    return Statement(steps, lambda answers: collect(answers[0]), decides=decides)


def write(
    *steps: Step | None,
    collect: Callable[[Sequence[Rows]], T_co],
    why: Callable[[], Statement[T_co]] | None = None,
    shared: Callable[[], frozenset[Key]] = frozenset,
) -> Statement[T_co]:
    """Make a statement that writes in one or more steps; those that are None are left out."""
    return Statement(tuple(filter(None, steps)), collect, True, shared, why)


def written(rows: Rows) -> Row:
    """Return the row that a step gave which wrote something.

    :raises Unwritten: it gave none
    """
    if not rows:
        raise Unwritten
    return rows[0]


def no_value(answers: Sequence[Rows]) -> None:
    """Collect nothing of a write whose last step wrote something.

    :raises Unwritten: it gave no row
    """
    written(answers[-1])


def typed(row: Callable[..., R], rows: Rows) -> list[R]:
    """Return rows as that type, whose fields are the query's columns: a test compares them."""
    return [row(*values) for values in rows]


def single(row: Callable[..., R], rows: Rows, missing: str) -> R:
    """Return the row that there is, as that type.

    :raises NotFound: there is none; with that message
    """
    if not rows:
        raise NotFound(missing)
    return row(*rows[0])


def variables(rows: Rows) -> dict[str, str]:
    """Return an environment, of which each row is a variable: its name and value."""
    return {str(name): str(value) for name, value in rows}


# What runs with a write that may find everything there already: what it finds may be on this server
# only, if its commit was not confirmed, and a transaction that writes nothing waits for no standby.
CONFIRM = step("store/confirm", {})
