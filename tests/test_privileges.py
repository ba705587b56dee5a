"""A role that lacks a privilege is told which, on what, and what grants it."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from functools import partial

import forked
import psycopg
import pytest
from filled import REPORTS, RUNNING, STATEMENTS, SUBMIT, WRITTEN
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import create, start

from butido_store import AsyncStore, Statement, Store, job, open_schema, report, uuid7
from butido_store.errors import PermissionDenied, SchemaMismatch, StoreError

Connection = psycopg.Connection[tuple[object, ...]]
Run = Callable[..., object]


@pytest.fixture
def role(connection: Connection) -> Iterator[str]:
    """A role without any privilege, whose name has to be quoted."""
    name = f"Role {uuid7()}"
    quoted = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(quoted))
    yield name
    connection.execute(sql.SQL("DROP OWNED BY {}").format(quoted))
    connection.execute(sql.SQL("DROP ROLE {}").format(quoted))


@pytest.fixture
def grant(connection: Connection, role: str, schema: str) -> Callable[[str], None]:
    """Grant something in the schema, as `SELECT ON ALL TABLES IN SCHEMA`, to the role."""
    names = (sql.Identifier(schema), sql.Identifier(role))

    def grant(what: str) -> None:
        connection.execute(sql.SQL(f"GRANT {what} {{}} TO {{}}").format(*names))

    return grant


@pytest.fixture(params=["sync", "async"])
def open_as_role(
    request: pytest.FixtureRequest, dsn: str, schema: str, role: str
) -> Iterator[Callable[[], Run]]:
    """Open a store as the role, and give what runs statements."""
    dsn = make_conninfo(dsn, user=role)
    with ExitStack() as stack:

        def opened() -> Run:
            if request.param == "sync":
                return stack.enter_context(Store.connect(dsn, schema=schema)).run
            runner = stack.enter_context(asyncio.Runner())
            store = runner.run(AsyncStore.connect(dsn, schema=schema))
            stack.callback(lambda: runner.run(store.close()))
            return lambda *statements: runner.run(store.run(*statements))

        yield opened


def follow(connection: Connection, error: PermissionDenied) -> None:
    """Do what an error says."""
    advice = re.fullmatch(r'role "Role .*" lacks .+: as the owner, run (GRANT .+)', str(error))
    assert advice, error
    connection.execute(advice[1].encode())


def followed(connection: Connection, work: Callable[[], object]) -> int:
    """Do what errors say until there is none more, and return how many there were."""
    for count in range(4):
        try:
            work()
        except PermissionDenied as error:
            follow(connection, error)
        else:
            return count
    raise AssertionError("the advice leads to no end")


def test_to_do_what_the_errors_say_is_enough(
    connection: Connection, dsn: str, schema: str, role: str
) -> None:
    Store(connection).run(*WRITTEN)
    reports = [getattr(report, name)(**values) for name, values in REPORTS.items()]
    with psycopg.connect(dsn, user=role, autocommit=True) as callers:
        # All that one lacks is said together.
        assert followed(connection, lambda: open_schema(callers, schema)) == 1

        def undone(one: Statement[object]) -> None:
            # What only reads, and fails, would leave the transaction so that nothing can be asked.
            with callers.transaction(force_rollback=True) if one.writes else nullcontext():
                Store(callers).run(one)

        for statement in (*STATEMENTS, create(uuid7(), image="new", env={"NEW": ""}), *reports):
            assert followed(connection, partial(undone, statement)) <= 1, statement


def test_a_store_is_opened_and_written_to_once_that_is_granted(
    connection: Connection, open_as_role: Callable[[], Run]
) -> None:
    opened: list[Run] = []
    assert followed(connection, lambda: opened.append(open_as_role())) == 1
    assert followed(connection, lambda: opened[0](create(uuid7(), package="new"))) == 1


@pytest.mark.parametrize(
    ("statements", "lacks"),
    [
        ([job.heartbeat(RUNNING)], "UPDATE ON {0}.job"),
        ([job.heartbeat(RUNNING), job.get(RUNNING)], "UPDATE ON {0}.job"),
        (
            [job.append_log(RUNNING, seq=9, data="x")],
            "UPDATE ON {0}.job and INSERT ON {0}.job_log_chunk",
        ),
        (
            [start(RUNNING, SUBMIT, image="new", env={})],
            "INSERT ON {0}.endpoint, {0}.environment, {0}.environment_envvar, {0}.envvar,"
            " {0}.image, {0}.job",
        ),
    ],
)
def test_a_reader_that_writes_is_told_what_it_lacks(
    statements: list[Statement[object]],
    lacks: str,
    schema: str,
    grant: Callable[[str], None],
    open_as_role: Callable[[], Run],
) -> None:
    grant("USAGE ON SCHEMA")
    grant("SELECT ON ALL TABLES IN SCHEMA")
    run = open_as_role()
    with pytest.raises(PermissionDenied) as caught:
        run(*statements)
    quoted = schema if schema.islower() else '"{}"'.format(schema.replace('"', '""'))
    assert f" lacks {lacks.format(quoted)}" in str(caught.value)
    run(report.jobs())


def test_a_transaction_of_the_callers_goes_on(
    dsn: str, schema: str, role: str, grant: Callable[[str], None]
) -> None:
    grant("USAGE ON SCHEMA")
    grant("SELECT ON ALL TABLES IN SCHEMA")
    with psycopg.connect(dsn, user=role, autocommit=True) as callers:
        open_schema(callers, schema)
        store = Store(callers)
        with callers.transaction():
            with pytest.raises(PermissionDenied, match="lacks UPDATE ON"):
                store.run(job.heartbeat(RUNNING))
            assert store.run(report.jobs()) == []


def test_what_cannot_be_asked_is_told_as_far_as_it_is_known(
    dsn: str, schema: str, role: str, grant: Callable[[str], None], connection: Connection
) -> None:
    grant("USAGE ON SCHEMA")
    grant("SELECT ON ALL TABLES IN SCHEMA")
    with psycopg.connect(dsn, user=role, autocommit=True) as callers:
        open_schema(callers, schema)
        connection.execute(
            sql.SQL("REVOKE SELECT ON {} FROM {}").format(
                sql.Identifier(schema, "job"), sql.Identifier(role)
            )
        )
        callers.execute("BEGIN")
        with pytest.raises(PermissionDenied, match=r"lacks SELECT ON .+job \("):
            Store(callers).run(report.jobs())
        with suppress(psycopg.Error):
            callers.execute("nonsense")
        # In a transaction that has failed nobody can be asked.
        with pytest.raises(StoreError, match="current transaction is aborted"):
            Store(callers).run(report.jobs())
        callers.execute("ROLLBACK")
        with pytest.raises(PermissionDenied, match=r"lacks SELECT ON .+job \("):
            list(Store(callers).stream(report.jobs()))


def test_a_schema_that_may_not_be_used_any_more_is_named(
    schema: str, role: str, grant: Callable[[str], None], connection: Connection, dsn: str
) -> None:
    grant("USAGE ON SCHEMA")
    grant("SELECT ON ALL TABLES IN SCHEMA")
    names = (sql.Identifier(schema), sql.Identifier(role))
    with Store.connect(make_conninfo(dsn, user=role), schema=schema) as store:
        store.run(report.jobs())
        connection.execute(sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {}").format(*names))
        with pytest.raises(PermissionDenied, match="lacks USAGE ON SCHEMA"):
            store.run(report.images())
    # Where nothing lacks, it is another schema, or another search path.
    connection.execute("SET search_path = public")
    with pytest.raises(SchemaMismatch, match="search_path is not"):
        Store(connection).run(report.images())


def test_the_status_of_migrations_sends_nobody_in_a_circle(
    dsn: str, schema: str, role: str, connection: Connection
) -> None:
    def said(*command: str, schema: str = schema) -> tuple[int, str]:
        options = ["--dsn", make_conninfo(dsn, user=role), "--schema", schema]
        done = forked.run([*options, *command], os.environ)
        return done.returncode, done.stderr.decode().strip().removeprefix("Error: ")

    def work() -> None:
        for command in (["migrate", "status"], ["migrate", "apply"], ["packages"]):
            code, error = said(*command)
            if code:
                raise PermissionDenied(error)

    assert followed(connection, work) <= 2
    code, error = said("migrate", "rollback", "zero", "--yes")
    assert (code, error.count("\n")) == (1, 0)
    assert "migrate as the owner of the schema" in error
    _, error = said("migrate", "apply", schema="another")
    assert "the role needs CREATE on the database" in error
