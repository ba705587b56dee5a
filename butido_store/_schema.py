"""Open a schema: set the search path and refuse a database that this version cannot work with."""

from collections.abc import Generator, Sequence
from typing import cast

from butido_store._query import query
from butido_store._statement import Batch, Rows, Statement
from butido_store.errors import SchemaMismatch

DEFAULT_SCHEMA = "butido"
OLDEST_SERVER = 140000


def _rows(rows: Rows) -> Rows:
    return rows


def opening(schema: str) -> Generator[Batch, Sequence[Rows], None]:
    """Set the search path to the schema and check what is found there.

    :param schema: name of the schema that holds the tables
    :raises SchemaMismatch: the message says what is wrong and what to do
    """
    rows = (yield [Statement(query("store/open"), {"schema": schema}, _rows)])[0]
    _, database, encoding, version, has_schema, is_migrated = rows[0]
    server = cast(int, version)
    if server < OLDEST_SERVER:
        raise SchemaMismatch(
            f"the server is PostgreSQL {server // 10000}; butido_store needs 14 or newer"
        )
    if encoding != "UTF8":
        raise SchemaMismatch(
            f"the encoding of database {database} is {encoding}; "
            "create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    advice = "run `butido-store migrate apply`"
    if schema != DEFAULT_SCHEMA:
        advice = f"run `butido-store --schema {schema} migrate apply`"
    if not has_schema:
        raise SchemaMismatch(f"database {database} has no schema {schema}; {advice}")
    if not is_migrated:
        raise SchemaMismatch(
            f"schema {schema} of database {database} holds no butido_store; {advice}"
        )
    rows = (yield [Statement(query("migration/applied"), {}, _rows)])[0]
    applied = {row[0]: row[3] for row in rows}
    _compare(schema, applied, advice)


def _compare(schema: str, applied: dict[object, object], advice: str) -> None:
    """Refuse a schema that lacks a migration this version needs, or has one too new for it.

    A `pre` migration goes before the code that needs it and leaves older code working; a `post`
    migration goes after. So what must be there is every `pre` one, and what must not be there is
    a `post` one of a later release.
    """
    from butido_store.migrate import shipped

    known = {migration.id: migration.phase for migration in shipped()}
    missing = sorted(id for id, phase in known.items() if phase == "pre" and id not in applied)
    if missing:
        raise SchemaMismatch(
            f"schema {schema} is older than this version of butido_store: "
            f"{', '.join(missing)} is not applied; {advice}"
        )
    newer = sorted(str(id) for id in applied if id not in known and applied[id] != "pre")
    if newer:
        raise SchemaMismatch(
            f"schema {schema} is newer than this version of butido_store: "
            f"it has {', '.join(newer)}; upgrade the package"
        )
