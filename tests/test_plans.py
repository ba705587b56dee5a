"""No listing reads all of a large table, at a size where the planner has reason to use an index."""

from collections.abc import Iterator
from datetime import date

import psycopg
import pytest
from conftest import Postgres
from generate import generate
from listings import cases, scans
from psycopg import sql

from butido_store.migrate import Migrator
from butido_store.report import ROWS

JOBS = 20_000


@pytest.fixture(scope="module")
def cursor(postgres: Postgres, schema: str) -> Iterator[psycopg.RawCursor[tuple[object, ...]]]:
    """A session on a database with generated jobs."""
    name = "plans"
    host, user = postgres.host, postgres.user
    with psycopg.connect(host=host, user=user, dbname="postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(host=host, user=user, dbname=name, autocommit=True) as connection:
            Migrator(connection, schema=schema).apply()
            generate(connection.info.dsn, schema=schema, jobs=JOBS, until=date(2026, 1, 1))
            connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
            yield psycopg.RawCursor(connection)
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_no_listing_reads_all_of_a_large_table(
    cursor: psycopg.RawCursor[tuple[object, ...]],
) -> None:
    every = cases(cursor)
    assert {case.report for case in every} <= ROWS.keys()
    assert len(every) > 60
    assert {str(case): found for case in every if (found := scans(cursor, case))} == {}


def test_a_plan_that_does_is_found(cursor: psycopg.RawCursor[tuple[object, ...]]) -> None:
    (case,) = (
        c for c in cases(cursor) if (c.report, c.filter, c.kind) == ("jobs", "state", "rare")
    )
    cursor.execute("BEGIN")
    cursor.execute("DROP INDEX job_state_started_at_uuid_idx, job_started_at_uuid_idx")
    assert scans(cursor, case) == {"job"}
    cursor.execute("ROLLBACK")
