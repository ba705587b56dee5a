"""Errors of the database are told apart, also where a sharded one words them."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from conftest import AnyStore
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import create, finish, start

from butido_store import AsyncStore, Store, job, open_schema, uuid7
from butido_store.errors import (
    SERIAL_TABLES,
    Canceled,
    Conflict,
    InvalidInput,
    ReadOnly,
    SchemaMismatch,
    StoreError,
    Unavailable,
    from_database,
)

Connection = psycopg.Connection[tuple[object, ...]]


def mapped(connection: Connection, state: str, message: str, constraint: str = "") -> StoreError:
    """Return what becomes of a server's error."""
    raised = sql.SQL(
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}, CONSTRAINT = {}; END $$"
    ).format(state, message, constraint)
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(raised)
    assert caught.value.sqlstate == state
    return from_database(caught.value)


def test_a_constraint_is_found_by_name_or_in_the_message(connection: Connection) -> None:
    taken = 'duplicate key value violates unique constraint "{}"'
    for message, constraint in [
        (taken.format("job_pkey"), "job_pkey"),
        (taken.format("job_pkey"), ""),
        (taken.format("job_pkey_102008"), ""),
        # What the server says outright counts.
        (taken.format("artifact_pkey_102008"), "job_pkey"),
    ]:
        error = mapped(connection, "23505", message, constraint)
        assert isinstance(error, Conflict)
        assert str(error).startswith("a uuid in table job is in the store already")


def test_what_is_no_key_is_refused_with_the_name_that_the_schema_has(
    connection: Connection,
) -> None:
    for state, message in [
        (
            "23505",
            'duplicate key value violates unique constraint "package_name_version_key_10201"',
        ),
        ("23503", 'table "job_102009" violates foreign key constraint "job_image_id_fkey_102009"'),
        ("23514", 'new row for relation "job_102009" violates check constraint "job_state_check"'),
    ]:
        error = mapped(connection, state, message)
        assert isinstance(error, InvalidInput)
        _, _, name = str(error).rpartition("(constraint ")
        assert name in ("package_name_version_key)", "job_image_id_fkey)", "job_state_check)")


def test_an_error_that_names_no_constraint_is_none_the_worse(connection: Connection) -> None:
    error = mapped(connection, "22P02", "invalid input syntax for type uuid")
    assert isinstance(error, InvalidInput)
    assert str(error) == "the database refused the values: invalid input syntax for type uuid"


def test_what_a_later_attempt_may_mend(connection: Connection) -> None:
    for state in ("CIINF", "25006", "25P03", "55P03", "40001", "57P01"):
        assert isinstance(mapped(connection, state, "not now"), Unavailable)
    for state in ("57014", "25P04"):
        assert isinstance(mapped(connection, state, "canceling statement"), Canceled)


def test_a_sequence_behind_its_table_is_told_with_what_mends_it(
    store: AnyStore, connection: Connection, schema: str
) -> None:
    serial = connection.execute(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = %s"
        " AND is_identity = 'YES'",
        [schema],
    ).fetchall()
    assert {name for (name,) in serial} == SERIAL_TABLES
    known = create(uuid7())
    store.run(known)
    for table, statements in [
        ("package", [create(uuid7(), package="new")]),
        ("image", [create(uuid7(), image="new"), create(uuid7(), image="newer")]),
        ("envvar", [create(uuid7(), env={"NEW": "1"})]),
    ]:
        behind = "SELECT setval(pg_get_serial_sequence('{0}', 'id'), min(id), FALSE) FROM {0}"
        connection.execute(behind.format(table).encode())
        with pytest.raises(SchemaMismatch, match=f"sequence of {table}.id is behind") as caught:
            store.run(*statements)
        # What needs no new one goes on.
        store.run(known)
        mending = re.search(r"run (SELECT .+?), and the same", str(caught.value))
        assert mending
        connection.execute(mending[1].encode())
        store.run(*statements)


@contextmanager
def opened(kind: str, dsn: str, schema: str, **settings: str) -> Iterator[Callable[..., object]]:
    """Open a store whose session begins with these settings, and give what runs statements."""
    dsn = make_conninfo(dsn, options=" ".join(f"-c {name}={to}" for name, to in settings.items()))
    if kind == "async":
        with asyncio.Runner() as runner:
            awaited = runner.run(AsyncStore.connect(dsn, schema=schema))
            yield lambda *statements: runner.run(awaited.run(*statements))
            runner.run(awaited.close())
    elif kind == "sync":
        with Store.connect(dsn, schema=schema) as store:
            yield store.run
    else:
        with psycopg.connect(dsn, autocommit=True) as connection:
            open_schema(connection, schema)
            with connection.transaction():
                yield Store(connection).run


@pytest.mark.parametrize("kind", ["sync", "async", "caller's"])
def test_a_timeout_of_the_servers_is_told_as_one(
    kind: str, dsn: str, schema: str, connection: Connection
) -> None:
    one, of_submit = uuid7(), uuid7()
    Store(connection).run(create(of_submit), start(one, of_submit))
    with opened(kind, dsn, schema, statement_timeout="50ms") as run:
        with connection.transaction():
            connection.execute("SELECT FROM job FOR UPDATE")
            for statements in ([job.heartbeat(one)], [finish(one), finish(one)]):
                with pytest.raises(Canceled, match=r"statement timeout.*raise statement_timeout"):
                    run(*statements)
        run(job.heartbeat(one))


@pytest.mark.parametrize("kind", ["sync", "async", "caller's"])
def test_a_session_that_a_setting_makes_read_only_is_told_at_once(
    kind: str, dsn: str, schema: str, connection: Connection
) -> None:
    one, of_submit = uuid7(), uuid7()
    Store(connection).run(create(of_submit), start(one, of_submit))
    with opened(kind, dsn, schema, default_transaction_read_only="on") as run:
        for statements in (
            [job.heartbeat(one)],
            [finish(one)],
            [create(uuid7(), package="new")],
            [job.heartbeat(one), job.get(one)],
        ):
            # Not tried again: that would end as Unavailable.
            with pytest.raises(ReadOnly, match="default_transaction_read_only is on"):
                run(*statements)
            assert isinstance(run(job.get(one)), job.Job)


def test_a_transaction_that_is_read_only_may_be_on_a_standby(connection: Connection) -> None:
    connection.execute("BEGIN READ ONLY")
    with pytest.raises(Unavailable, match=r"takes no writes.*target_session_attrs=read-write"):
        Store(connection).run(create(uuid7()))
    connection.execute("ROLLBACK")
