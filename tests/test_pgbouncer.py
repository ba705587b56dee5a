"""Through pgbouncer, which in transaction mode lends each transaction another session."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pooling import Start
from psycopg.conninfo import make_conninfo
from samples import TIME, create, ended, finish, start
from shell import Run

from butido_store import (
    AsyncStore,
    Statement,
    Store,
    job,
    open_schema,
    open_schema_async,
    release,
    report,
    submit,
    uuid7,
)
from butido_store.admin.migrate import Migrator
from butido_store.errors import ConnectionFailed, NotFound

pytestmark = pytest.mark.any_server

OTHER = 'Another "one"'
CLIENTS = 8
ROUNDS = 4
# Written in a round of `events`.
JOBS = 3
ALL = report.jobs(limit=None)

both_modes = pytest.mark.parametrize("mode", ["session", "transaction"])


# Stores of all kinds ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Door:
    """A store, and the caller's own SQL on its connection where there is only one."""

    run: Callable[..., Any]
    stream: Callable[[Statement[list[Any]]], list[Any]]
    sql: Callable[[Any], Any] | None = None


@contextmanager
def blocking(kind: str, dsn: str, schema: str) -> Iterator[Door]:
    """Open a store of this kind."""

    def door(store: Store, connection: psycopg.Connection[Any] | None = None) -> Door:
        return Door(
            store.run,
            lambda statement: list(store.stream(statement)),
            connection.execute if connection else None,
        )

    if kind == "own":
        with Store.connect(dsn, schema=schema) as store:
            yield door(store)
    elif kind == "pool":
        with Store.pooled(dsn, schema=schema, max_size=2) as store:
            yield door(store)
    else:
        with psycopg.connect(dsn, autocommit=True) as connection:
            open_schema(connection, schema)
            yield door(Store(connection), connection)


@asynccontextmanager
async def awaiting(
    kind: str, dsn: str, schema: str, wait: Callable[[Awaitable[Any]], Any]
) -> AsyncIterator[Door]:
    """Open a store of this kind, whose answers are waited for."""

    def door(store: AsyncStore, connection: psycopg.AsyncConnection[Any] | None = None) -> Door:
        async def listed(statement: Statement[list[Any]]) -> list[Any]:
            return [row async for row in store.stream(statement)]

        return Door(
            lambda *statements: wait(store.run(*statements)),
            lambda statement: wait(listed(statement)),
            (lambda text: wait(connection.execute(text))) if connection else None,
        )

    if kind == "own":
        async with AsyncStore.connect(dsn, schema=schema) as store:
            yield door(store)
    elif kind == "pool":
        async with AsyncStore.pooled(dsn, schema=schema, max_size=2) as store:
            yield door(store)
    else:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await open_schema_async(connection, schema)
            yield door(AsyncStore(connection), connection)


@contextmanager
def opened(face: str, kind: str, dsn: str, schema: str) -> Iterator[Door]:
    """Open a store of this face and kind."""
    if face == "sync":
        with blocking(kind, dsn, schema) as door:
            yield door
        return
    with asyncio.Runner() as runner:

        def wait(answer: Awaitable[Any]) -> Any:
            async def answered() -> Any:
                return await answer

            return runner.run(answered())

        manager = awaiting(kind, dsn, schema, wait)
        door = wait(manager.__aenter__())
        try:
            yield door
        finally:
            wait(manager.__aexit__(None, None, None))


faces = pytest.mark.parametrize("face", ["sync", "async"])
kinds = pytest.mark.parametrize("kind", ["own", "pool", "callers"])


def events(name: str) -> list[list[Statement[object]]]:
    """Return what a builder writes, in runs of their own; name, once for each, is all over it."""
    of_submit, uuid = uuid7(), uuid7()
    values = {"endpoint": name, "image": name}
    return [
        [create(of_submit, image=name), start(uuid, of_submit, **values)],
        [job.append_log(uuid, seq=0, data=name)],
        [job.heartbeat(uuid)],
        [finish(uuid, name)],
        [job.record(ended(uuid7(), of_submit, **values))],
        [job.record_all([ended(uuid7(), of_submit, **values)])],
        [job.get(uuid)],
    ]


# What does not mix ------------------------------------------------------------------------------


@pytest.fixture
def schemas(clone_dsn: str, schema: str) -> list[str]:
    """Two schemas with a store in each, in one database."""
    with psycopg.connect(clone_dsn, autocommit=True) as connection:
        Migrator(connection, schema=OTHER).apply()
    return [schema, OTHER]


def check_unmixed(dsn: str, schemas: list[str], jobs: int) -> None:
    """Check that each schema has so many jobs, all of clients that meant it."""
    for schema in schemas:
        with Store.connect(dsn, schema=schema) as store:
            assert [row.endpoint for row in store.run(ALL)] == [schema] * jobs
            assert {row.name for row in store.run(report.images())} == {schema}


@pytest.mark.parametrize("threshold", [None, 0, 5])
def test_threads_of_two_schemas_do_not_mix(
    pooler: Start, clone_dsn: str, schemas: list[str], threshold: int | None
) -> None:
    dsn = pooler("transaction").through(clone_dsn)

    def work(number: int) -> None:
        schema = schemas[number % 2]
        with Store.connect(dsn, schema=schema, prepare_threshold=threshold) as store:
            for _ in range(ROUNDS):
                for statements in events(schema):
                    store.run(*statements)
                assert {row.endpoint for row in store.stream(ALL)} == {schema}

    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(work, range(CLIENTS)))
    check_unmixed(clone_dsn, schemas, CLIENTS // 2 * ROUNDS * JOBS)


def test_tasks_of_two_schemas_do_not_mix(pooler: Start, clone_dsn: str, schemas: list[str]) -> None:
    dsn = pooler("transaction").through(clone_dsn)

    async def work(schema: str) -> None:
        async with AsyncStore.connect(dsn, schema=schema) as store:
            for _ in range(ROUNDS):
                for statements in events(schema):
                    await store.run(*statements)
                assert {row.endpoint async for row in store.stream(ALL)} == {schema}

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(work(schemas[number % 2]))

    asyncio.run(main())
    check_unmixed(clone_dsn, schemas, CLIENTS // 2 * ROUNDS * JOBS)


# What another client does to the only session.
LEAKS = [
    f"SET search_path = '{OTHER}'",
    "SET search_path = pg_catalog",
    "SET intervalstyle = 'iso_8601'",
    "SET datestyle = 'German'",
    "SET client_encoding = 'LATIN1'",
    "SET standard_conforming_strings = off",
    # Another of each name that comes before those of any schema, unless that is said.
    "CREATE TEMPORARY TABLE job AS SELECT 1 AS one",
    "CREATE TEMPORARY TABLE image AS SELECT 1 AS one",
]


@faces
@kinds
def test_what_another_client_leaves_in_the_session_changes_nothing(
    pooler: Start, clone_dsn: str, schemas: list[str], face: str, kind: str
) -> None:
    pgbouncer = pooler("transaction", 1)
    dsn, (schema, _) = pgbouncer.through(clone_dsn), schemas
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as leaking,
        opened(face, kind, dsn, schema) as door,
    ):
        for leak in LEAKS:
            leaking.execute(leak.encode())
            for statements in events(schema):
                door.run(*statements)
            assert {row.endpoint for row in door.stream(ALL)} == {schema}
            if door.sql:
                for begin, end in (("BEGIN", "COMMIT"), ("BEGIN; SAVEPOINT one", "ROLLBACK")):
                    door.sql(begin)
                    for statements in events(schema):
                        door.run(*statements)
                    with pytest.raises(NotFound):
                        door.run(start(uuid7(), uuid7()))
                    assert {row.endpoint for row in door.run(ALL)} == {schema}
                    door.sql(end)
    rounds = len(LEAKS) * (2 if kind == "callers" else 1)
    check_unmixed(clone_dsn, [schema], rounds * JOBS)
    with Store.connect(clone_dsn, schema=OTHER) as store:
        assert store.run(ALL) == []


def test_how_another_client_has_writes_confirmed_is_not_how_ours_are(
    pooler: Start, dsn: str, schema: str
) -> None:
    through = pooler("transaction", 1).through(dsn)
    show = "SHOW synchronous_commit"
    with (
        psycopg.connect(through, autocommit=True, prepare_threshold=None) as leaking,
        psycopg.connect(through) as connection,
    ):
        own = leaking.execute(show).fetchone()
        assert own != ("local",)
        leaking.execute("SET synchronous_commit = local")
        open_schema(connection, schema)
        Store(connection).run(create(uuid7()))
        assert connection.execute(show).fetchone() == own
        connection.rollback()
        # What the caller sets in the transaction stays.
        connection.execute("SET LOCAL synchronous_commit = remote_apply")
        Store(connection).run(create(uuid7()))
        assert connection.execute(show).fetchone() == ("remote_apply",)


@faces
@kinds
def test_nothing_is_left_in_the_session(
    pooler: Start, dsn: str, schema: str, face: str, kind: str
) -> None:
    shown = ("search_path", "jit", "intervalstyle")
    with psycopg.connect(pooler("transaction", 1).through(dsn), autocommit=True) as other:
        other.execute("SET intervalstyle = 'iso_8601'")
        before = [other.execute(f"SHOW {name}".encode()).fetchone() for name in shown]
        with opened(face, kind, other.info.dsn, schema) as door:
            for statements in events("a"):
                door.run(*statements)
            door.stream(ALL)
            with pytest.raises(NotFound):
                door.run(start(uuid7(), uuid7()))
            after = [other.execute(f"SHOW {name}".encode()).fetchone() for name in shown]
            prepared = other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert after == before
    assert prepared == (0,)


class _Late:
    """A pooler's socket by which a Flush that follows a Sync comes after the answer to that."""

    def __init__(self, directory: Path, pooler: str) -> None:
        self._pooler = pooler
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                pooler = socket.socket(socket.AF_UNIX)
                pooler.connect(self._pooler)
                # Each time that the pooler is ready for what comes next.
                answered = threading.Semaphore(0)
                for work in (self._ask, self._answer):
                    threading.Thread(
                        target=work, args=(client, pooler, answered), daemon=True
                    ).start()

    def _ask(
        self, client: socket.socket, pooler: socket.socket, answered: threading.Semaphore
    ) -> None:
        with suppress(OSError), client, pooler, client.makefile("rb") as asks:
            (length,) = struct.unpack("!I", start := asks.read(4))
            pooler.sendall(start + asks.read(length - 4))
            awaited = True
            while head := asks.read(5):
                if awaited:
                    answered.acquire()
                kind, length = struct.unpack("!cI", head)
                pooler.sendall(head + asks.read(length - 4))
                awaited = kind in b"SQ"
            pooler.shutdown(socket.SHUT_RDWR)

    def _answer(
        self, client: socket.socket, pooler: socket.socket, answered: threading.Semaphore
    ) -> None:
        with suppress(OSError), pooler.makefile("rb") as answers:
            while head := answers.read(5):
                kind, length = struct.unpack("!cI", head)
                client.sendall(head + answers.read(length - 4))
                if kind == b"Z":
                    answered.release()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@faces
@kinds
def test_no_session_is_kept_between_runs(
    pooler: Start, dsn: str, schema: str, face: str, kind: str
) -> None:
    """psycopg's Flush after a Sync may come when the session has been taken back."""
    pgbouncer = pooler("transaction", 1)
    place = pgbouncer.directory
    late = _Late(place, str(place / ".s.PGSQL.6432"))
    with (
        closing(late),
        psycopg.connect(pgbouncer.through(dsn), autocommit=True, prepare_threshold=None) as other,
        opened(face, kind, make_conninfo(dsn, host=str(place), port=5432), schema) as door,
    ):
        other.execute("SELECT 1")
        for statements in events("a"):
            door.run(*statements)
            other.execute("SELECT 1")
        with pytest.raises(NotFound):
            door.run(start(uuid7(), uuid7()))
        other.execute("SELECT 1")


def test_a_completion_leaves_nothing_in_the_session(
    pooler: Start, run: Run, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = pooler("transaction", 1).through(dsn)
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(uuid := uuid7()))
    monkeypatch.setenv("_BUTIDO_STORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"butido-store --dsn '{through}' --schema '{schema}' submit ")
    monkeypatch.setenv("COMP_CWORD", "6")
    with psycopg.connect(through, autocommit=True) as other:
        before = other.execute("SHOW statement_timeout").fetchone()
        assert str(uuid) in run().stdout
        assert other.execute("SHOW statement_timeout").fetchone() == before


# What passes, and what is refused ---------------------------------------------------------------


@both_modes
@faces
@kinds
def test_what_a_builder_does_passes(
    pooler: Start, dsn: str, schema: str, mode: str, face: str, kind: str
) -> None:
    with opened(face, kind, pooler(mode).through(dsn), schema) as door:
        of_submit, uuid = uuid7(), uuid7()
        for statements in (
            [create(of_submit), start(uuid, of_submit)],
            [job.append_log(uuid, seq=0, data="a")],
            [job.heartbeat(uuid), job.append_log(uuid, seq=1, data="b")],
        ):
            door.run(*statements)
        (made,) = door.run(finish(uuid, "zlib.rpm"))
        said: Any = {"store": "stable", "timestamp": TIME, "actor": "a"}
        door.run(release.create(uuid7(), artifacts=[made], **said))
        assert door.run(job.log(uuid)) == "ab"
        assert [row.uuid for row in door.stream(ALL)] == [uuid]
        with pytest.raises(NotFound):
            door.run(create(other := uuid7()), start(uuid7(), uuid7()))
        with pytest.raises(NotFound):
            door.run(submit.get(other))


@both_modes
def test_the_command_line_passes(pooler: Start, run: Run, dsn: str, schema: str, mode: str) -> None:
    on = ("--dsn", pooler(mode, 1).through(dsn), "--schema", schema)
    of_submit, uuid = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(uuid, of_submit))
        store.run(job.append_log(uuid, seq=0, data="one\ntwo\n"))
        store.run(finish(uuid))
    for arguments, says in (
        (["jobs"], "builder-1"),
        (["job", str(uuid)], "builder-1"),
        (["log-of", "--follow", str(uuid)], "one\ntwo\n"),
        (["images"], "debian:12"),
    ):
        done = run(*on, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert says in done.stdout


@both_modes
def test_options_are_refused_with_what_to_do(
    pooler: Start, dsn: str, schema: str, mode: str
) -> None:
    through = pooler(mode).through(make_conninfo(dsn, options="-c search_path=a"))
    for connected in (
        lambda: Store.connect(through, schema=schema),
        lambda: asyncio.run(AsyncStore.connect(through, schema=schema)),
    ):
        with pytest.raises(ConnectionFailed, match=r"leave it out .* ALTER ROLE"):
            connected()


@both_modes
def test_migrations_need_a_session(
    pooler: Start, run: Run, database_dsn: str, schema: str, mode: str
) -> None:
    dsn = pooler(mode).through(database_dsn)
    on = ("--dsn", dsn, "--schema", schema, "migrate")
    done = [
        run(*on, "apply"),
        run(*on, "status"),
        run(*on, "rollback", "--yes", "zero"),
    ]
    if mode == "session":
        assert [one.returncode for one in done] == [0, 0, 0]
    else:
        assert [one.returncode for one in done] == [1, 1, 1]
        assert {(one.stdout, one.stderr) for one in done} == {
            (
                "",
                "Error: migrations need one session throughout, and a pooler in between "
                "lends each transaction another one: connect to the server itself, or to a pooler "
                "in session mode\n",
            )
        }
