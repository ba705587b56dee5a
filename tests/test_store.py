"""Stores: how they connect, what a transaction is, what is tried again, and at which cost."""

import asyncio
import os
import re
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import AnyStore, Postgres
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from samples import TIME, create, ended, finish, sha256, start

from butido_store import (
    AsyncStore,
    Statement,
    Store,
    artifact,
    job,
    open_schema,
    release,
    report,
    submit,
    uuid7,
)
from butido_store.admin.migrate import Migrator
from butido_store.artifact import Output
from butido_store.embedded import Server
from butido_store.errors import (
    ConnectionFailed,
    NotFound,
    NotRunning,
    SchemaMismatch,
    StoreError,
    Unavailable,
)

Connect = Callable[[], psycopg.Connection[Any]]


def count(connection: psycopg.Connection[Any], table: str) -> int:
    """Return how many rows a table has."""
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


# Connecting -----------------------------------------------------------------------------------


def test_the_environment_of_libpq_is_used(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in psycopg.conninfo.conninfo_to_dict(dsn).items():
        name = {"dbname": "PGDATABASE"}.get(key, f"PG{key.upper()}")
        monkeypatch.setenv(name, str(value))
    with Store.connect(schema=schema) as store:
        assert store.run(report.submits()) == []


def test_with_neither_dsn_nor_environment_it_is_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, short_directory: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    with pytest.raises(SchemaMismatch, match="butido-store migrate apply"):
        Store.connect()
    with Server() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        Migrator(connection).apply()
    with Store.connect() as store:
        assert store.run(report.submits()) == []
        assert Server().status().running
    assert not Server().status().running


def test_no_statement_is_compiled(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET jit = on")
        open_schema(connection, schema)
        assert connection.execute("SHOW jit").fetchone() == ("off",)


def test_a_schema_that_is_not_there(database_dsn: str) -> None:
    with pytest.raises(SchemaMismatch, match="no schema butido; run `butido-store migrate apply`"):
        Store.connect(database_dsn)
    with pytest.raises(SchemaMismatch, match="--schema other migrate apply"):
        Store.connect(database_dsn, schema="other")


def test_a_schema_of_somebody_else(database_dsn: str) -> None:
    with psycopg.connect(database_dsn) as connection:
        connection.execute("CREATE SCHEMA butido")
    with pytest.raises(SchemaMismatch, match="holds no butido_store"):
        Store.connect(database_dsn)


def test_a_schema_that_is_older_or_newer(clone_dsn: str, schema: str) -> None:
    with psycopg.connect(clone_dsn, autocommit=True) as connection:
        connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
        change = "UPDATE _yoyo_migration SET migration_id = %s, phase = %s"
        connection.execute(change, ["9999.of-tomorrow", "pre"])
        with pytest.raises(SchemaMismatch, match=r"older .*0001\.initial is not applied"):
            Store.connect(clone_dsn, schema=schema)
        insert = (
            "INSERT INTO _yoyo_migration (migration_hash, migration_id, phase) VALUES (%s, %s, %s)"
        )
        connection.execute(insert, ["x", "0001.initial", "pre"])
        # A newer release's schema, before its code is rolled out everywhere.
        Store.connect(clone_dsn, schema=schema).close()
        connection.execute(
            "UPDATE _yoyo_migration SET phase = 'post' WHERE migration_id = '9999.of-tomorrow'"
        )
        with pytest.raises(SchemaMismatch, match=r"newer .*9999\.of-tomorrow"):
            Store.connect(clone_dsn, schema=schema)


def test_a_database_that_is_not_utf8(postgres: Postgres, database_dsn: str) -> None:
    name = f"latin{os.getpid()}"
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0".encode())
        try:
            with pytest.raises(SchemaMismatch, match=r"encoding of database \w+ is LATIN1"):
                Store.connect(make_conninfo(database_dsn, dbname=name))
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())


def test_two_schemas_side_by_side(database_dsn: str) -> None:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        for name in ("one", 'Two "2"'):
            Migrator(connection, schema=name).apply()
    uuid = uuid7()
    with (
        Store.connect(database_dsn, schema="one") as one,
        Store.connect(database_dsn, schema='Two "2"') as two,
    ):
        one.run(create(uuid))
        with pytest.raises(NotFound):
            two.run(submit.get(uuid))
        # The same uuid, with other content: nothing is shared.
        two.run(create(uuid, package="curl"), start(uuid7(), uuid))
        assert one.run(submit.get(uuid)).package == "zlib"
        assert one.run(report.jobs()) == []


def test_a_password_never_reaches_a_message(database_dsn: str) -> None:
    for dsn in (
        make_conninfo(database_dsn, user="nobody-here", password="s3cret"),
        make_conninfo(database_dsn, port=1, password="s3cret"),
        "host=localhost password=s3cret s3cret",
        "postgresql://me:s3cret@[/",
    ):
        with pytest.raises(ConnectionFailed) as caught:
            Store.connect(dsn)
        shown: BaseException | None = caught.value
        while shown:
            assert "s3cret" not in f"{shown} {shown!r} {shown.args}"
            shown = shown.__cause__


def test_a_wrong_password_is_one_clear_error(short_directory: Path) -> None:
    with Server(short_directory) as server:
        hba = short_directory / "data" / "pg_hba.conf"
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("ALTER ROLE butido PASSWORD 'right'")
            trusting = hba.read_text()
            hba.write_text("local all all scram-sha-256\n")
            connection.execute("SELECT pg_reload_conf()")
            # The reload reaches the server in its own time; until then any password is right.
            wrong = make_conninfo(server.dsn, password="wrong")
            with suppress(psycopg.OperationalError):
                while True:
                    psycopg.connect(wrong).close()
            with pytest.raises(ConnectionFailed, match=r"password authentication failed.*\.pgpass"):
                Store.connect(wrong)
            hba.write_text(trusting)
            connection.execute("SELECT pg_reload_conf()")


# Transactions ---------------------------------------------------------------------------------


def test_several_writes_happen_together_or_not_at_all(
    dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    uuid, one = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        # Every shared value is missing at first, so the first attempt is undone and repeated.
        store.run(create(uuid), start(one, uuid), finish(one, "a"))
        assert store.run(job.get(one)).state == "success"
        other = uuid7()
        with pytest.raises(StoreError):
            store.run(create(other), start(one, other))
        with pytest.raises(NotFound):
            store.run(submit.get(other))
    assert count(connection, "submit") == 1


def test_the_callers_transaction_is_the_callers(connect: Connect) -> None:
    connection, observer = connect(), connect()
    store, uuid = Store(connection), uuid7()
    with connection.transaction(force_rollback=True):
        store.run(create(uuid), start(uuid7(), uuid))
        assert count(connection, "job") == 1
        assert count(observer, "job") == 0
    assert count(observer, "submit") == 0
    with connection.transaction():
        store.run(create(uuid))
    assert count(observer, "submit") == 1
    connection.autocommit = False
    store.run(start(uuid7(), uuid))
    assert count(observer, "job") == 0
    connection.commit()
    assert count(observer, "job") == 1


def test_a_pool_of_connections_that_do_not_autocommit_keeps_what_is_written(
    dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    uuid = uuid7()
    with ConnectionPool(dsn, configure=lambda one: open_schema(one, schema)) as pool:
        Store(pool).run(create(uuid), start(uuid7(), uuid))
    assert count(connection, "job") == 1


# Failures that pass ---------------------------------------------------------------------------


def _end_backends(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def test_a_lost_connection_is_opened_again(
    dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    uuid = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(uuid))
        _end_backends(connection)
        store.run(start(uuid7(), uuid))
        _end_backends(connection)
        assert len(store.run(report.jobs())) == 1


def test_a_lost_connection_of_the_callers_is_not(connect: Connect) -> None:
    connection = connect()
    store = Store(connection)
    _end_backends(connect())
    with pytest.raises(Unavailable):
        store.run(report.submits())


def test_a_closed_store_stays_closed(dsn: str, schema: str) -> None:
    store = Store.connect(dsn, schema=schema)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.run(report.submits())


def test_an_embedded_server_that_does_not_come_up_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, short_directory: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    server = Server()
    with server, psycopg.connect(server.dsn, autocommit=True) as connection:
        Migrator(connection).apply()
    with Store.connect(retry_for=0) as store:
        configuration = short_directory / "data" / "postgresql.conf"
        right = configuration.read_text()
        configuration.write_text("nonsense\n")
        server.stop()
        for _ in range(3):
            with pytest.raises(Unavailable):
                store.run(report.submits())
        configuration.write_text(right)
        assert store.run(report.submits()) == []
    assert not server.status().running


def test_the_last_piece_and_the_end_can_be_said_again_together(
    dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    uuid, one = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(uuid), start(one, uuid), job.append_log(one, seq=0, data="first;"))
        together = (job.append_log(one, seq=1, data="last"), finish(one, "a"))
        # As after a commit whose answer was lost.
        assert store.run(*together) == store.run(*together)
        assert store.run(job.log(one)) == "first;last"
        for late in (
            job.append_log(one, seq=1, data="other"),
            job.append_log(one, seq=2, data="last"),
        ):
            with pytest.raises(NotRunning):
                store.run(late)
    callers = Store(connection)
    other, next_ = uuid7(), uuid7()
    callers.run(start(other, uuid))
    with connection.transaction():
        callers.run(
            job.append_log(other, seq=0, data="x"),
            finish(other),
            start(next_, uuid, env={"NOT YET": "there"}),
        )
    assert callers.run(job.get(next_)).state == "running"


def test_time_runs_out(dsn: str, schema: str, connection: psycopg.Connection[Any]) -> None:
    with Store.connect(dsn, schema=schema, retry_for=0) as store:
        _end_backends(connection)
        with pytest.raises(Unavailable) as caught:
            store.run(report.submits())
    assert isinstance(caught.value.__cause__, psycopg.Error)


@pytest.mark.parametrize("level", ["notice", "error"])
def test_a_commit_that_the_standby_does_not_confirm_is_not_acknowledged(
    short_directory: Path, level: str
) -> None:
    """Whatever level of messages the database has its sessions hear of."""
    with Server(short_directory) as server, psycopg.connect(server.dsn, autocommit=True) as admin:
        Migrator(admin).apply()
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("ALTER DATABASE {} SET client_min_messages = {}").format(name, level))
        with Store.connect(server.dsn, retry_for=0) as store:
            store.run(create(uuid7()))
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
            waiting = (
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
            done = threading.Event()

            def cancel() -> None:
                while not done.is_set():
                    admin.execute(waiting)

            thread = threading.Thread(target=cancel)
            thread.start()
            try:
                # Until the reload has reached the store's backend, commits do not wait; and the
                # cancellation may hit a statement that has not come to its commit.
                refused: StoreError | None = None
                for _ in range(10_000):
                    try:
                        store.run(create(uuid7()))
                    except StoreError as error:
                        refused = error
                        if "not acknowledged" in str(error):
                            break
                assert isinstance(refused, Unavailable)
            finally:
                done.set()
                thread.join()
                admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                admin.execute("SELECT pg_reload_conf()")


# Cost -----------------------------------------------------------------------------------------


def round_trips(connection: psycopg.Connection[Any], *statements: Statement[object]) -> int:
    """Run statements, and return how often the talk turned from the client to the server."""
    with tempfile.TemporaryFile() as file:
        connection.pgconn.trace(file.fileno())
        connection.pgconn.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)
        try:
            Store(connection).run(*statements)
        finally:
            connection.pgconn.untrace()
        file.seek(0)
        sides = re.findall(rb"^([FB])\t", file.read(), re.MULTILINE)
    return sum(pair == (b"F", b"B") for pair in pairwise(sides))


def test_a_builders_events_take_one_round_trip_each(connection: psycopg.Connection[Any]) -> None:
    known = uuid7()
    by: dict[str, Any] = {"store": "stable", "actor": "jane", "timestamp": TIME}
    Store(connection).run(
        create(known),
        start(uuid7(), known),
        artifact.register("old", sha256=sha256("old"), size=3, uuid=known),
        release.create(uuid7(), artifacts=[known], **by),
    )
    uuid, one, source = uuid7(), uuid7(), uuid7()
    events: dict[str, Statement[object]] = {
        "submit create": create(uuid),
        "job start": start(one, uuid),
        "log append": job.append_log(one, seq=0, data="x"),
        "heartbeat": job.heartbeat(one),
        "set container": job.set_container(one, "c"),
        "job finish": finish(one, "a", "b"),
        "job record": job.record(ended(uuid7(), uuid)),
        "job record all": job.record_all([ended(uuid7(), uuid) for _ in range(20)]),
        "artifact register": artifact.register("src", sha256=sha256("src"), size=3, uuid=source),
        "release create": release.create(uuid7(), artifacts=[source], **by),
        "release withdraw": release.withdraw(artifact=source, reason="broken", **by),
        "job sweep": job.sweep(silent_for=timedelta(days=1)),
    }
    connection.prepare_threshold = None
    assert {
        name: round_trips(connection, event) for name, event in events.items()
    } == dict.fromkeys(events, 1)
    # Without autocommit, the caller's transaction begins with the write.
    connection.autocommit = False
    assert round_trips(connection, create(uuid7())) == 1
    connection.rollback()
    connection.autocommit = True
    # What is prepared is sent along.
    connection.prepare_threshold = 0
    again = submit.get(uuid)
    assert [round_trips(connection, again) for _ in range(3)] == [1, 1, 1]


def test_several_writes_take_two_round_trips_whatever_their_number(
    connection: psycopg.Connection[Any],
) -> None:
    connection.prepare_threshold = None
    uuid = uuid7()
    jobs = [start(uuid7(), uuid) for _ in range(20)]
    # Try, undo, ask what is missing, add it; then begin with all again, and commit.
    assert round_trips(connection, create(uuid), *jobs) == 6
    # Said again: begin with all, undo, ask why.
    assert round_trips(connection, create(uuid), *jobs) == 3
    assert round_trips(connection, create(uuid7()), *(start(uuid7(), uuid) for _ in range(20))) == 2
    assert round_trips(connection, submit.get(uuid), submit.env(uuid), report.jobs()) == 1


def test_what_cannot_be_recorded_in_one_round_trip_takes_a_few(
    connection: psycopg.Connection[Any],
) -> None:
    """A builder that repeats itself, or meets a new value, waits for no more than these."""
    connection.prepare_threshold = None
    of_submit = uuid7()
    Store(connection).run(create(of_submit))
    new, other = ended(uuid7(), of_submit), ended(uuid7(), of_submit, env={"OTHER": "1"})
    # Try, ask why and what is missing, add it, try again; for one that is there, only ask.
    assert round_trips(connection, job.record(new)) == 4
    assert round_trips(connection, job.record(new)) == 2
    assert round_trips(connection, job.record_all([other])) == 4
    assert round_trips(connection, job.record_all([other])) == 2
    # Begin with all, undo, ask why.
    assert round_trips(connection, *[job.record(new), job.record(other)] * 5) == 3


def test_what_comes_after_a_record_sees_it(connection: psycopg.Connection[Any]) -> None:
    store, of_submit = Store(connection), uuid7()
    store.run(create(of_submit))
    first, second = (ended(uuid7(), of_submit, env={str(n): ""}) for n in range(2))
    _, found = store.run(job.record(first), report.jobs())
    assert [one.uuid for one in found] == [first.uuid]
    with connection.transaction():
        # The first is repeated, so that they run one after the other.
        _, _, found = store.run(job.record(first), job.record(second), report.jobs())
    assert {one.uuid for one in found} == {first.uuid, second.uuid}


def test_a_statement_is_of_the_values_that_it_was_made_from(store: AnyStore) -> None:
    of_submit, uuid = uuid7(), uuid7()
    env, outputs = {"N": "1"}, [Output("a", sha256("a"), 1)]
    statements = [
        job.record(ended(uuid, of_submit, env=env, outputs=outputs)),
        job.record_all([ended(uuid7(), of_submit, env=env)]),
    ]
    env["N"] = "2"
    outputs.clear()
    store.run(create(of_submit))
    for statement in statements:
        store.run(statement)
    assert store.run(job.env(uuid)) == {"N": "1"}
    assert [made.path for made in store.run(job.outputs(uuid))] == ["a"]
    assert len(store.run(report.jobs(env="N=1"))) == 2


def test_threads_share_a_store_on_a_pool(dsn: str, schema: str) -> None:
    def configure(connection: psycopg.Connection[Any]) -> None:
        open_schema(connection, schema)

    of_submit = uuid7()
    with (
        ConnectionPool(
            dsn, min_size=3, max_size=3, configure=configure, kwargs={"autocommit": True}
        ) as pool,
        ThreadPoolExecutor(6) as threads,
    ):
        store = Store(pool)
        store.run(create(of_submit))
        jobs = [ended(uuid7(), of_submit, log=str(n)) for n in range(60)]
        list(threads.map(lambda one: store.run(job.record(one)), jobs))
        logs = list(threads.map(lambda one: store.run(job.log(one.uuid)), jobs))
    assert logs == [str(n) for n in range(60)]


def test_sequences_advance_by_no_more_than_the_new_rows(
    connection: psycopg.Connection[Any],
) -> None:
    store, uuid = Store(connection), uuid7()
    store.run(create(uuid))
    for number in range(20):
        store.run(start(uuid7(), uuid, env={"SHARED": "1", "OWN": str(number % 4)}))
    used = connection.execute(
        "SELECT (SELECT last_value FROM envvar_id_seq) - (SELECT min(id) FROM envvar) + 1"
    ).fetchone()
    assert used == (count(connection, "envvar"),)


async def _two_stores_in_one_loop(dsn: str, schema: str) -> int:
    async with (
        await AsyncStore.connect(dsn, schema=schema) as one,
        await AsyncStore.connect(dsn, schema=schema) as other,
    ):
        uuid = uuid7()
        await one.run(create(uuid))
        await asyncio.gather(
            *(store.run(start(uuid7(), uuid)) for store in (one, other) for _ in range(5))
        )
        return len(await other.run(report.jobs()))


def test_tasks_share_async_stores(dsn: str, schema: str) -> None:
    assert asyncio.run(_two_stores_in_one_loop(dsn, schema)) == 10
