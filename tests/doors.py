"""Two doors to a store: psql, and the driver that sends a file as the library does."""

import csv
import io
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg
from conftest import Postgres
from psycopg import sql
from psycopg.adapt import PyFormat, Transformer

from butido_store._query import Query
from butido_store._secrets import NO_KEY, Concealing
from butido_store._statement import Step

Connection = psycopg.Connection[tuple[object, ...]]
Cells = list[tuple[str | None, ...]]

NULL = "<null>"
# What differs from one run to the next, and whether it is of this run.
STATE_OF_A_TABLE = """
SELECT
    {name} AS name,
    (to_jsonb(t) - ARRAY['heartbeat_at', 'created_at_utc', 'applied_at_utc', {id}])::text AS row,
    to_jsonb(t) ->> 'heartbeat_at' =
    to_jsonb(date_trunc('milliseconds', now())) #>> '{{}}' AS alive
FROM {table} AS t
"""
SCHEMAS = """
SELECT n.nspname, obj_description(n.oid, 'pg_namespace'), NULL
FROM pg_namespace AS n
WHERE n.nspname !~ '^pg_'
"""


def told(step: Step) -> dict[str, object]:
    """Return the parameters of a step as they are sent where nothing is a secret."""
    return {
        name: value.told(NO_KEY) if isinstance(value, Concealing) else value
        for name, value in step.parameters.items()
    }


@dataclass(frozen=True)
class Result:
    """What a file gave and what it left."""

    columns: tuple[str, ...]
    rows: Cells
    state: Cells
    # The columns' types, as the server numbers them; psql does not tell.
    types: tuple[int, ...] = field(default=(), compare=False)


class Both:
    """A database with sample rows, for psql and for the library."""

    def __init__(
        self, postgres: Postgres, dsn: str, schema: str, search_path: str, directory: Path
    ) -> None:
        self.schema = schema
        self._postgres = postgres
        self._dsn = dsn
        self._directory = directory
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT quote_ident(%s)", [search_path]).fetchone()
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
            ).fetchall()
            sequences = connection.execute(
                "SELECT format('%%I.%%I', schemaname, sequencename), coalesce(last_value, 1)"
                " FROM pg_sequences"
                " WHERE schemaname = %s",
                [schema],
            ).fetchall()
        assert row is not None
        # The server splits options at spaces, unless a backslash stands before them.
        path = "".join(f"\\{c}" if c in " \\\t\n" else c for c in str(row[0]))
        self._options = f"-c search_path={path} -c TimeZone=Asia/Kathmandu -c DateStyle=ISO"
        states = [
            sql.SQL(STATE_OF_A_TABLE).format(
                name=str(name),
                id="id" if name == "_yoyo_log" else "",
                table=sql.Identifier(schema, str(name)),
            )
            for (name,) in tables
        ]
        self._state = sql.SQL("{} ORDER BY 1, 2").format(
            sql.SQL(" UNION ALL ").join([*states, sql.SQL(SCHEMAS)])
        )
        # A transaction that is undone has used up ids all the same.
        self._restart = sql.SQL("SELECT {}").format(
            sql.SQL(", ").join(
                sql.SQL("setval({}, {})").format(str(name), last) for name, last in sequences
            )
        )

    def psql(self, *arguments: str) -> str:
        """Run psql as somebody would who has the search path in PGOPTIONS."""
        done = subprocess.run(
            [self._postgres.psql, "-Xq", "-v", "ON_ERROR_STOP=1", *arguments, self._dsn],
            env={
                **os.environ,
                "PGOPTIONS": self._options,
                "PGCLIENTENCODING": "UTF8",
                "PGAPPNAME": "butido_store",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def by_psql(
        self, file: Query, given: Mapping[str, object], before: Sequence[Step] = ()
    ) -> Result:
        """Run a file in psql, with parameters as PostgreSQL writes them.

        :param before: what else its statement runs before it, with `-f … -f …`
        """
        earlier = chain.from_iterable(("-f", str(step.query.path)) for step in before)
        every: dict[str, object] = {}
        for step in before:
            every |= told(step)
        with self._connect() as connection:
            known = Transformer(connection)
            texts = {
                name: bytes(known.get_dumper(value, PyFormat.TEXT).dump(value) or b"").decode()
                for name, value in {**every, **given}.items()
            }
        rows, state = self._directory / "rows.csv", self._directory / "state.csv"
        self.psql(
            *chain.from_iterable(("-v", f"{name}={text}") for name, text in texts.items()),
            *("--csv", "-P", f"null={NULL}", "-o", os.devnull),
            *("-c", self._restart.as_string(), "-c", "BEGIN", *earlier),
            *("-c", rf"\o '{rows}'", "-f", str(file.path)),
            *("-c", rf"\o '{state}'", "-c", self._state.as_string(), "-c", "ROLLBACK"),
        )
        return Result(*_read_csv(rows), _read_csv(state)[1])

    def by_library(
        self, file: Query, given: Mapping[str, object], before: Sequence[Step] = ()
    ) -> Result:
        """Run a file as the library does, after those that its statement runs before it."""
        with self._connect() as connection, connection.transaction(force_rollback=True):
            connection.execute(self._restart)
            cursor = psycopg.RawCursor(connection)
            for step in (*before, Step(file, given)):
                cursor.execute(*step.rendered())
            columns, rows = _read_result(cursor)
            types = tuple(column.type_code for column in cursor.description or ())
            # What psql's end takes with it.
            connection.execute("SELECT pg_advisory_unlock_all()")
            return Result(columns, rows, _read_result(connection.execute(self._state))[1], types)

    def _connect(self) -> Connection:
        return psycopg.connect(self._dsn, autocommit=True, options=self._options)


def _read_csv(path: Path) -> tuple[tuple[str, ...], Cells]:
    text = path.read_bytes().decode()
    columns, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    return tuple(columns), [tuple(None if cell == NULL else cell for cell in row) for row in rows]


def _read_result(cursor: psycopg.Cursor[Any]) -> tuple[tuple[str, ...], Cells]:
    result = cursor.pgresult
    assert result is not None
    columns = range(result.nfields)
    cells = [[result.get_value(row, column) for column in columns] for row in range(result.ntuples)]
    return (
        tuple((result.fname(column) or b"").decode() for column in columns),
        [tuple(None if cell is None else cell.decode() for cell in row) for row in cells],
    )
