"""Compare a store's schema with what the applied migrations make.

Both are read from the server's catalog by the files of `sql/drift`, as rows that do not name the
schema. What the migrations make is made by this very server, in a schema of its own and in a
transaction that is undone, since each version prints definitions in its own way. A role that may
not create compares with `schema/catalog.jsonl`, which is the same as 15 to 18 print it.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from butido_store import errors
from butido_store._query import directory as shipped_directory
from butido_store._query import query
from butido_store._target import DEFAULT_SCHEMA, Target
from butido_store.admin.migrate import MigrationFile, Migrator, rehearse, shipped
from butido_store.errors import MigrationError

Problem = Literal["missing", "extra", "differs"]

_COMPARED = (
    "drift/tables",
    "drift/storage_parameters",
    "drift/domains",
    "drift/columns",
    "drift/identities",
    "drift/constraints",
    "drift/indexes",
    "drift/functions",
    "drift/views",
    "drift/policies",
    "drift/others",
    "drift/comments",
)
# Told of the live schema, and compared with nothing.
_TOLD = ("drift/privileges",)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the files of `sql/drift`; the first of them says what is in it."""

    kind: str
    object: str
    aspect: str
    part_of: str | None
    definition: str
    shape: str | None
    make: Sequence[str | None] | None
    remove: Sequence[str | None] | None
    loses: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is compared by."""
        return self.kind, self.object, self.aspect

    def equals(self, other: "_Row | None") -> bool:
        """Tell whether another one describes the same in the same way."""
        return other is not None and (self.definition, self.shape) == (
            other.definition,
            other.shape,
        )

    def changes(self, other: "_Row | None") -> bool:
        """Tell whether `make` can change that other one, as it stands, into this."""
        return other is not None and self.shape is not None and self.shape == other.shape

    @property
    def whole(self) -> str:
        """The object that it describes."""
        return f"{self.kind} {self.object}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the schema is not what the migrations make, and the statements that mend it.

    They are for a session whose search path is the schema, each sent by itself. There are none
    where none is enough.
    """

    kind: str
    object: str
    aspect: str  # empty where the whole object is meant
    problem: Problem
    expected: str | None
    found: str | None
    statements: list[str]
    loses_data: bool

    def __str__(self) -> str:
        """Return it in one line."""
        name = f"{self.kind} {self.object}"
        if self.aspect:
            return f"{name}: {self.aspect} is {_line(self.found)}, not {_line(self.expected)}"
        if self.problem == "differs":
            return f"{name} differs"
        return f"{name} is missing" if self.problem == "missing" else f"{name} is extra"


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found: nothing differs where `differences` is empty."""

    schema: str
    applied: list[str]
    pending: list[str]
    differences: list[Difference]
    compared_with: Literal["this server", "the release's catalog"]


def check(
    connection: psycopg.Connection[Any],
    *,
    schema: str = DEFAULT_SCHEMA,
    directory: Path | None = None,
) -> Check:
    """Compare a store's schema with what its applied migrations make; nothing is changed.

    :param connection: outside of any transaction
    :param schema: the schema that holds the store
    :param directory: where the migrations are; by default those of this release
    :returns: what differs, and which migrations are not applied, which is no difference
    :raises MigrationError: it cannot be told what the schema should be
    """
    found = Migrator(connection, schema=schema, directory=directory).status()
    for state, reason in (
        ("edited", "is not the file that was applied"),
        ("unknown", "is a newer release's: check with that release"),
    ):
        if named := [one.id for one in found if one.state == state]:
            raise MigrationError(f"{', '.join(named)} {reason}")
    files = {file.id: file for file in shipped(directory)}
    applied = [one.id for one in found if one.state == "applied"]
    if not applied:
        raise MigrationError(
            f"no migration is applied to schema {schema!r}: apply them or, where it was restored "
            "without its records, mark them"
        )
    pending = [one.id for one in found if one.state == "pending"]
    shipped_all = directory is None and not pending
    differing, made = _compare(connection, schema, [files[id_] for id_ in applied], shipped_all)
    return Check(
        schema, applied, pending, differing, "this server" if made else "the release's catalog"
    )


def differences(
    connection: psycopg.Connection[Any],
    *,
    schema: str = DEFAULT_SCHEMA,
    files: list[MigrationFile] | None = None,
) -> list[Difference]:
    """Return where a schema is not what migrations make, whether or not they are recorded.

    :param connection: outside of a transaction or within one, which goes on as it was
    :param schema: the schema that is compared
    :param files: the migrations; by default all of this release
    :raises MigrationError: it cannot be told what the schema should be
    """
    return _compare(connection, schema, files or shipped(), files is None)[0]


def _compare(
    connection: psycopg.Connection[Any], schema: str, files: list[MigrationFile], all_: bool
) -> tuple[list[Difference], bool]:
    """Return what differs, and whether the server made what it was compared with.

    :param all_: whether the migrations are all of this release
    """
    try:
        with connection.transaction(force_rollback=True):
            session = _run(connection, "drift/session", schema=schema)
            if not session:
                raise MigrationError(f"there is no schema {schema!r}: apply the migrations")
            if not session[0]["may_look"]:
                raise MigrationError(f"the role needs USAGE on schema {schema!r}")
            found = _rows(connection, _COMPARED)
            told = _rows(connection, _TOLD)
            bookkeeping = any(row.whole == "table _yoyo_migration" for row in found)
            if session[0]["may_create"]:
                expected = _made(connection, files, bookkeeping=bookkeeping)
            elif all_:
                expected = _catalog()
            else:
                raise MigrationError(
                    "the role needs CREATE on the database, and a server that is no standby, to "
                    "see what these migrations make: the release has the catalog of all of its "
                    "migrations only"
                )
    except psycopg.Error as error:
        raise errors.from_database(error, connection_lost=connection.closed) from error
    if not bookkeeping:
        expected = [row for row in expected if "yoyo_" not in row.object]
    return [*_differences(expected, [*found, *told])], session[0]["may_create"]


def _run(
    connection: psycopg.Connection[Any], name: str, **parameters: object
) -> list[dict[str, Any]]:
    """Run one of the queries of `sql/` and return its rows."""
    sql, values = query(name).render(frozenset(parameters)).bind(parameters)
    with psycopg.RawCursor(connection, row_factory=dict_row) as cursor:
        return cursor.execute(sql, values).fetchall()


def _rows(connection: psycopg.Connection[Any], names: Iterable[str]) -> list[_Row]:
    """Return what is in the schema that the search path names."""
    return [_Row(**row) for name in names for row in _run(connection, name)]


def _made(
    connection: psycopg.Connection[Any], files: list[MigrationFile], *, bookkeeping: bool
) -> list[_Row]:
    """Return what migrations make on this server, in the caller's transaction, which is undone."""
    # A schema of its own for each: a second check would wait for the first one to end.
    _run(connection, "drift/scratch", schema=f"butido_store check {uuid4()}")
    rehearse(connection, files, bookkeeping=bookkeeping)
    return _rows(connection, _COMPARED)


def catalog_path() -> Path:
    """Return where the catalog is that this release makes."""
    return shipped_directory("schema") / "catalog.jsonl"


def _catalog() -> list[_Row]:
    """Return what the migrations of this release make, as the release has it."""
    lines = catalog_path().read_text(encoding="utf-8").splitlines()
    return [_Row(**json.loads(line)) for line in lines]


def catalog(connection: psycopg.Connection[Any]) -> str:
    """Return what `schema/catalog.jsonl` has to hold: a row in a line.

    :param connection: to a server, as a role that may create
    """
    with connection.transaction(force_rollback=True):
        rows = _made(connection, shipped(), bookkeeping=True)
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def _differences(expected: list[_Row], found: list[_Row]) -> Iterator[Difference]:
    """Yield what differs: first what is to be removed, then what is to be made, in that order."""
    wanted = {row.key: row for row in sorted(expected, key=_place)}
    there = {row.key: row for row in sorted(found, key=_place)}
    extra = _tops((row for key, row in there.items() if key not in wanted), wanted)
    for row in reversed(extra):
        yield Difference(
            kind=row.kind,
            object=row.object,
            aspect=row.aspect,
            problem="differs" if row.aspect else "extra",
            expected=None,
            found=row.definition,
            statements=_given(row.remove),
            loses_data=row.loses,
        )
    other = _tops((row for key, row in wanted.items() if not row.equals(there.get(key))), there)
    for row in other:
        have = there.get(row.key)
        anew = not row.aspect and not row.changes(have)
        yield Difference(
            kind=row.kind,
            object=row.object,
            aspect=row.aspect,
            problem="differs" if have or row.aspect else "missing",
            expected=row.definition,
            found=have.definition if have else None,
            statements=[
                *(_given(have.remove) if have and anew else []),
                *_given(row.make),
                *(s for part in _parts(row, wanted.values()) for s in _given(part.make) if anew),
            ],
            loses_data=anew and have is not None and have.loses,
        )


def _tops(rows: Iterable[_Row], others: Mapping[tuple[str, str, str], _Row]) -> list[_Row]:
    """Return those rows that do not come and go with another one of them.

    :param rows: what differs, an object before its parts
    :param others: what it differs from
    """
    tops: list[_Row] = []
    gone: set[str | None] = set()
    for row in rows:
        inside = row.part_of in gone or (bool(row.aspect) and row.whole in gone)
        if not inside:
            tops.append(row)
        if not row.aspect and not row.changes(others.get(row.key)):
            gone.add(row.whole)
    return tops


def _parts(whole: _Row, rows: Iterable[_Row]) -> Iterator[_Row]:
    """Yield what goes with an object and is not made by what makes it, in the order to make it."""
    objects = {whole.whole}
    for row in rows:
        if row.aspect:
            if row.whole in objects and row.remove is not None:
                yield row
        elif row.part_of in objects:
            objects.add(row.whole)
            yield row


# What another one is built on, or is a part of it, comes first.
_ORDER = (
    *("type", "domain", "sequence", "function", "table", "column", "identity", "view"),
    *("materialized view", "constraint", "index", "function that reads tables"),
)


def _place(row: _Row) -> tuple[int, bool, str, str, str]:
    """Return the place of a row in the order in which a schema is made."""
    kind = row.kind
    if kind == "function" and "BEGIN ATOMIC" in row.definition:
        kind = _ORDER[-1]
    place = _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
    return place, row.definition.startswith("FOREIGN KEY"), kind, row.object, row.aspect


def _given(statements: Sequence[str | None] | None) -> list[str]:
    """Return statements without those that there are not."""
    return [statement for statement in statements or () if statement is not None]


def _line(definition: str | None) -> str:
    """Return a definition for a line of text."""
    return "the default" if definition is None else shorten(definition, 200, placeholder=" …")


def main() -> None:
    """Print `schema/catalog.jsonl`: `./dev run python -m butido_store.admin.drift`."""
    with Target(None) as target, psycopg.connect(target.dsn) as connection:
        sys.stdout.write(catalog(connection))


if __name__ == "__main__":
    main()
