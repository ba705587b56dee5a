"""Each check of `sql/doctor/` fires on a planted fault, and is quiet without.

A check is asked as the owner, as a role that reads the store and the server's statistics, and as
one that only reads the store: what that one cannot see is `unknown`, not `ok`.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

import forked
import psycopg
import pytest
from conftest import Postgres
from doors import Both, Connection
from filled import DONE, WRITTEN
from migrating import ADVISORY_LOCKS
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import create
from standby import Pair

from butido_store import Secrets, Store, open_schema, submit, uuid7
from butido_store._query import query
from butido_store._secrets import PATTERNS
from butido_store.admin import doctor
from butido_store.admin.doctor import Finding, check, checks, examine
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server
from butido_store.errors import InvalidInput

# It has a server of its own: the others run without fsync, which is a fault.
pytestmark = pytest.mark.own_server

ROLES = ("owner", "monitor", "reader")
SETTINGS = {"autovacuum_naptime": "1d", "max_prepared_transactions": "1"}


@dataclass(frozen=True)
class Place:
    """A database of a test's own, with an empty store, and a superuser's connection to it."""

    dsn: str
    schema: str
    connection: Connection

    def role(self, name: str) -> str:
        """DSN of a role."""
        return self.dsn if name == "owner" else make_conninfo(self.dsn, user=name)

    def ask(self, role: str, name: str, limits: Mapping[str, int]) -> list[Finding]:
        """Ask a check as a role."""
        with Store.connect(self.role(role), schema=self.schema) as store:
            return store.run(check(name, **limits))

    def fill(self) -> None:
        """Write a row into every table."""
        Store(self.connection).run(*WRITTEN)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with its usual settings, and the three roles."""
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        with Server(Path(name), settings=SETTINGS) as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("CREATE ROLE reader LOGIN")
                connection.execute("CREATE ROLE monitor LOGIN IN ROLE pg_monitor")
            yield server


def _lz4(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    ).fetchone()
    return row == (True,)


@pytest.fixture(scope="module")
def template(server: Server, schema: str) -> str:
    """Name of a database with an empty store that the roles may read."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_of_the_store")
    dsn = make_conninfo(server.dsn, dbname="template_of_the_store")
    with psycopg.connect(dsn, autocommit=True) as connection:
        Migrator(connection, schema=schema).apply()
        for what in (
            "USAGE ON SCHEMA {} TO reader, monitor",
            "SELECT ON ALL TABLES IN SCHEMA {} TO reader, monitor",
            "SELECT ON ALL SEQUENCES IN SCHEMA {} TO monitor",
        ):
            connection.execute(sql.SQL(f"GRANT {what}").format(sql.Identifier(schema)))
    return "template_of_the_store"


@pytest.fixture
def place(server: Server, template: str, schema: str) -> Iterator[Place]:
    """A database of the test's own."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE place TEMPLATE {template}".encode())
        try:
            dsn = make_conninfo(server.dsn, dbname="place")
            if _lz4(admin):
                admin.execute("ALTER DATABASE place SET default_toast_compression = 'lz4'")
            with psycopg.connect(dsn, autocommit=True) as connection:
                open_schema(connection, schema)
                yield Place(dsn, schema, connection)
        finally:
            admin.execute("DROP DATABASE place WITH (FORCE)")


# Faults ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What makes a check fire, under these limits."""

    plant: Callable[[Place], AbstractContextManager[object] | None]
    verdict: str = "warn"
    limits: Mapping[str, int] = field(default_factory=dict)
    # Whether a role sees it that may only read the store.
    reader_sees: bool = True


def does(*statements: str) -> Callable[[Place], None]:
    """Plant by SQL as a superuser."""

    def plant(place: Place) -> None:
        for statement in statements:
            place.connection.execute(statement.encode())

    return plant


@contextmanager
def _idle_transaction(place: Place) -> Iterator[None]:
    with psycopg.connect(place.dsn) as other:
        other.execute("SELECT 1")
        yield


@contextmanager
def _waiting(place: Place, *, prepared: bool = False) -> Iterator[None]:
    waits = f"SELECT pid FROM {ADVISORY_LOCKS} WHERE waitstart IS NOT NULL"
    with psycopg.connect(place.dsn) as holder, psycopg.connect(place.dsn) as waiter:
        if prepared:
            holder.tpc_begin(holder.xid(1, "holds", ""))
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        if prepared:
            holder.tpc_prepare()
        waiter.pgconn.send_query(b"SELECT pg_advisory_xact_lock(1)")
        while place.connection.execute(waits).fetchone() is None:
            pass
        try:
            yield
        finally:
            if prepared:
                holder.tpc_rollback()
            else:
                holder.rollback()
        _drain(waiter)


def _drain(connection: Connection) -> None:
    """Wait for the end of what was sent."""
    while connection.pgconn.get_result():
        pass


@contextmanager
def _sessions(place: Place) -> Iterator[None]:
    opened = [psycopg.connect(place.dsn) for _ in range(15)]
    try:
        yield
    finally:
        for one in opened:
            one.close()


@contextmanager
def _slot(place: Place) -> Iterator[None]:
    place.connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    yield
    place.connection.execute("SELECT pg_drop_replication_slot('forgotten')")


@contextmanager
def _nobody_confirms(place: Place) -> Iterator[None]:
    def until(names: str) -> None:
        place.connection.execute("SELECT pg_reload_conf()")
        while place.connection.execute("SHOW synchronous_standby_names").fetchone() != (names,):
            pass

    place.connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    until("nobody")
    yield
    place.connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
    until("")


def _pglz(place: Place) -> None:
    if not _lz4(place.connection):
        pytest.skip("this server was built without lz4")
    place.connection.execute("ALTER DATABASE place SET default_toast_compression = 'pglz'")


def _silent(place: Place) -> None:
    place.fill()
    place.connection.execute("UPDATE job SET heartbeat_at = now() - interval '2 hours'")


def _orphaned(place: Place) -> None:
    place.fill()
    place.connection.execute(
        "INSERT INTO job_log_chunk (job_uuid, seq, chunk) VALUES (%s, 0, 'left over')", [DONE]
    )


_IMAGES = "INSERT INTO image (name) SELECT n::text FROM generate_series(1, 100) AS n"
_COUNTED = "SELECT pg_stat_force_next_flush()"

FAULTS: Mapping[str, Fault] = {
    "clear_secrets": Fault(does("INSERT INTO envvar (name, value) VALUES ('NPM_TOKEN', 'a')")),
    "collation_version": Fault(
        does("UPDATE pg_database SET datcollversion = '0' WHERE datname = 'place'")
    ),
    "compression": Fault(_pglz),
    "connections": Fault(_sessions, limits={"percent": 10}),
    "dead_rows": Fault(
        does(_IMAGES, "DELETE FROM image", _COUNTED), limits={"rows": 50, "percent": 0}
    ),
    "foreign_keys": Fault(does("DROP INDEX job_endpoint_id_started_at_idx")),
    "invalid_indexes": Fault(
        does(
            "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'job_started_at_idx'::regclass"
        ),
        "bad",
    ),
    "lock_waits": Fault(_waiting, limits={"seconds": 0}),
    "log_bytes": Fault(Place.fill, limits={"percent": 0, "bytes": 0}),
    "orphan_chunks": Fault(_orphaned),
    "replication": Fault(_nobody_confirms, "bad"),
    "replication_slots": Fault(_slot, limits={"bytes": 0}),
    "sequences": Fault(
        does("INSERT INTO image (id, name) OVERRIDING SYSTEM VALUE VALUES (7, 'replicated')"),
        "bad",
        reader_sees=False,
    ),
    "settings": Fault(does("ALTER DATABASE place SET synchronous_commit = off")),
    "silent_jobs": Fault(_silent),
    "table_sizes": Fault(Place.fill, limits={"bytes": 2_000_000, "days": 36_500}),
    "transaction_ids": Fault(
        does(
            "UPDATE pg_database SET datfrozenxid ="
            " ((datfrozenxid::text::bigint + 4294967296 - 1200000000) % 4294967296)::text::xid"
            " WHERE datname = 'place'"
        ),
        "bad",
    ),
    "transactions": Fault(_idle_transaction, limits={"idle_seconds": 0}, reader_sees=False),
    "unused_indexes": Fault(
        does(
            "INSERT INTO envvar (name, value) SELECT n, n"
            " FROM (SELECT n::text FROM generate_series(1, 5000) AS n) AS t",
            "CREATE INDEX envvar_value_sha256_idx ON envvar (value_sha256)",
            _COUNTED,
        ),
        limits={"scans": 0, "bytes": 100_000},
    ),
    "vacuum_age": Fault(does(_IMAGES, _COUNTED), limits={"rows": 50, "percent": 0, "days": 0}),
}


def test_each_check_has_a_planted_fault() -> None:
    assert sorted(FAULTS) == checks()


@pytest.mark.parametrize("name", FAULTS)
def test_a_check_fires_on_its_fault_and_is_quiet_without(name: str, place: Place) -> None:
    fault = FAULTS[name]
    for role in ROLES:
        quiet = place.ask(role, name, fault.limits)
        hidden = role == "reader" and not fault.reader_sees
        assert {one.verdict for one in quiet} == {"unknown" if hidden else "ok"}, (role, quiet)
        assert all(one.advice is None for one in quiet) is not hidden
    with fault.plant(place) or nullcontext():
        for role in ROLES:
            found = place.ask(role, name, fault.limits)
            hidden = role == "reader" and not fault.reader_sees
            assert found[0].verdict == ("unknown" if hidden else fault.verdict), (role, found)
            assert found[0].advice
            # The worst comes first.
            order = ["bad", "warn", "unknown", "ok"]
            places = [order.index(one.verdict) for one in found]
            assert places == sorted(places)


# What the checks say ---------------------------------------------------------------------------


def test_the_advice_on_a_sequence_mends_it(place: Place) -> None:
    place.connection.execute(
        "INSERT INTO image (id, name) OVERRIDING SYSTEM VALUE VALUES (7, 'replicated')"
    )
    (one,) = [f for f in place.ask("owner", "sequences", {}) if f.verdict == "bad"]
    assert (one.value, one.limit) == (None, "7")
    assert one.advice
    place.connection.execute(one.advice.removeprefix("As the owner: ").encode())
    assert {f.verdict for f in place.ask("owner", "sequences", {})} == {"ok"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_advice_on_a_secret_takes_it_out(pattern: str, place: Place) -> None:
    name = pattern.replace("*", "a").lower()
    env = {"A": "1", name: "hunter2", "KEY": "2", "Z": "3"}
    with Store.connect(place.dsn, schema=place.schema, secrets=Secrets(bytes(16))) as store:
        store.run(create(uuid7(), env=env))
    assert place.ask("reader", "clear_secrets", {})[0].verdict == "ok"
    with Store.connect(place.dsn, schema=place.schema, secrets=Secrets(patterns=())) as store:
        store.run(create(one := uuid7(), env=env))
        assert place.ask("reader", "clear_secrets", {"names": 1})[0].verdict == "ok"
        (found,) = place.ask("reader", "clear_secrets", {})
        assert (found.verdict, found.object) == ("warn", f"variables such as {name}")
        assert found.advice
        assert "hunter2" not in found.advice
        place.connection.execute(found.advice.partition("as the owner: ")[2].encode())
        assert place.ask("reader", "clear_secrets", {})[0].verdict == "ok"
        assert store.run(submit.env(one)) == {**env, name: "<redacted>"}


def test_every_sequence_is_looked_at(place: Place) -> None:
    rows = place.connection.execute(
        "SELECT sequencename FROM pg_sequences"
        " WHERE schemaname = current_schema() AND sequencename NOT LIKE %s",
        [r"\_yoyo%"],
    ).fetchall()
    found = {one.object for one in place.ask("owner", "sequences", {})}
    assert found == {name for (name,) in rows}


def test_a_long_transaction_is_told_with_what_ends_it(place: Place) -> None:
    with psycopg.connect(place.dsn, application_name="a builder") as other:
        other.execute("SELECT 1")
        pid = other.info.backend_pid
        (one,) = place.ask("owner", "transactions", {"seconds": 0})
        assert one.object == f"process {pid} of {other.info.user} (a builder)"
        assert one.advice
        assert f"pg_terminate_backend({pid})" in one.advice


def test_a_wait_names_who_is_in_the_way(place: Place) -> None:
    with _waiting(place):
        (one,) = place.ask("reader", "lock_waits", {"seconds": 0})
        holder = place.connection.execute(
            f"SELECT pid FROM {ADVISORY_LOCKS} WHERE granted".encode()
        )
        assert f"pg_terminate_backend({holder.fetchone()[0]})" in (one.advice or "")  # type: ignore[index]


def test_a_wait_for_a_prepared_transaction_names_no_process(place: Place) -> None:
    with _waiting(place, prepared=True):
        (one,) = place.ask("reader", "lock_waits", {"seconds": 0})
    assert (one.advice or "").startswith("A prepared transaction is in the way")


@pytest.mark.parametrize(
    ("days", "jobs", "analyzed"), [(10, 100, False), (300, 1000, True), (300, 50_000, False)]
)
def test_a_table_grows_as_the_jobs_of_the_last_thirty_days(
    days: int, jobs: int, analyzed: bool, place: Place
) -> None:
    place.fill()
    connection = place.connection
    connection.execute("SET session_replication_role = replica")
    connection.execute("DELETE FROM job")
    connection.execute(
        "INSERT INTO job (uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id,"
        " state, started_at, finished_at, heartbeat_at, script, log_size)"
        " SELECT gen_random_uuid(), gen_random_uuid(), 1, 1, 1, 1, 'success', t.at, t.at, t.at,"
        " '', 0"
        " FROM (SELECT now() - n * interval '1 day' * %s / %s AS at"
        "       FROM generate_series(1, %s) AS n) AS t",
        [days, jobs, jobs],
    )
    if analyzed:
        connection.execute("ANALYZE job")
    size = int(place.ask("owner", "table_sizes", {})[0].number or 0)
    # As much again takes as long as it took.
    for margin, verdict in ((0.7, "ok"), (1.3, "warn")):
        limits = {"bytes": size * 2, "days": round(days * margin)}
        found = [one for one in place.ask("reader", "table_sizes", limits) if one.object == "job"]
        assert [one.verdict for one in found] == [verdict], found
    assert place.ask("owner", "table_sizes", {"bytes": size})[0].verdict == "bad"


@pytest.mark.parametrize(
    ("where", "setting", "verdict"),
    [
        ("ROLE reader", "statement_timeout = '2s'", "warn"),
        ("ROLE reader", "statement_timeout = '1.5s'", "warn"),
        ("ROLE reader", "statement_timeout = '1min'", "ok"),
        ("ROLE reader", "synchronous_commit = 'ON'", "ok"),
        ("ROLE reader", "synchronous_commit = off", "warn"),
        ("ROLE reader IN DATABASE place", "lock_timeout = 9999", "warn"),
        ("ROLE reader IN DATABASE place", "lock_timeout = 10000", "ok"),
        ("DATABASE postgres", "synchronous_commit = off", "ok"),
    ],
)
def test_a_setting_that_others_have_is_found(
    where: str, setting: str, verdict: str, place: Place
) -> None:
    name = setting.partition(" ")[0]
    place.connection.execute(f"ALTER {where} SET {setting}".encode())
    try:
        found = place.ask("monitor", "settings", {})
        assert {one.verdict for one in found} == {verdict, "ok"}
        assert found[0].object.startswith(name) is (verdict == "warn")
    finally:
        place.connection.execute(f"ALTER {where} RESET {name}".encode())


def test_an_index_that_is_being_built_is_not_invalid(place: Place) -> None:
    with (
        psycopg.connect(place.dsn) as older,
        psycopg.connect(place.dsn, autocommit=True) as builder,
    ):
        open_schema(older, place.schema)
        older.execute("INSERT INTO image (name) VALUES ('in the way')")
        builder.pgconn.send_query(
            b"CREATE INDEX CONCURRENTLY slow ON " + _qualified(place, "image")
        )
        building = "SELECT 1 FROM pg_stat_progress_create_index WHERE index_relid <> 0"
        while place.connection.execute(building).fetchone() is None:
            pass
        (one,) = place.ask("owner", "invalid_indexes", {})
        assert (one.verdict, one.value) == ("ok", "being built")
        older.rollback()
        _drain(builder)


def _qualified(place: Place, table: str) -> bytes:
    text = sql.SQL("{} (name)").format(sql.Identifier(place.schema, table))
    return text.as_string().encode()


# All at once, and by every door ----------------------------------------------------------------


def test_all_is_well_with_a_new_store(place: Place) -> None:
    with Store.connect(place.dsn, schema=place.schema) as store:
        found = examine(store)
    assert [one.check for one in found] == checks()
    assert {one.verdict for one in found} == {"ok"}
    assert (doctor.worst(found), doctor.status(found)) == ("ok", 0)


def test_of_what_is_well_one_row_is_left(place: Place) -> None:
    _orphaned(place)
    with Store.connect(place.dsn, schema=place.schema) as store:
        found = examine(store, only=["sequences", "settings", "orphan_chunks", "dead_rows"])
    assert [one.check for one in found] == ["sequences", "settings", "orphan_chunks", "dead_rows"]
    assert doctor.worst(found) == "warn"


def test_a_table_that_may_not_be_read_is_unknown(place: Place) -> None:
    with Store.connect(place.role("reader"), schema=place.schema) as store:
        place.connection.execute("REVOKE SELECT ON job FROM reader")
        found = examine(store)
    unseen = {one.check: one.advice or "" for one in found if one.verdict == "unknown"}
    reads_job = {"log_bytes", "orphan_chunks", "silent_jobs", "table_sizes"}
    assert unseen.keys() == reads_job | {"sequences", "transactions"}
    assert all("SELECT ON" in unseen[name] for name in reads_job)


@pytest.mark.parametrize(
    ("name", "limits", "says"),
    [
        ("nothing", {}, "name is 'nothing'; it must be one of clear_secrets, "),
        ("transactions", {"days": 1}, "a limit of transactions is 'days'; it must be one of "),
        ("transactions", {"seconds": -1}, "transactions.seconds is -1"),
        ("transactions", {"seconds": 1.5}, "transactions.seconds must be an int"),
        ("transactions", {"seconds": 2**63}, "transactions.seconds is 9223"),
    ],
)
def test_what_cannot_be_asked_is_refused(name: str, limits: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check(name, **limits)


def test_what_cannot_be_asked_is_refused_before_anything_is(place: Place) -> None:
    with Store.connect(place.dsn, schema=place.schema) as store:
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"only": ["nothing"]}, "only is 'nothing'"),
            ({"limits": {"nothing": {}}}, "limits is 'nothing'"),
            ({"limits": {"settings": {"days": 1}}}, "a limit of settings is 'days'"),
        ]
        for asked, says in wrong:
            with pytest.raises(InvalidInput, match=says):
                examine(store, **asked)


@pytest.mark.parametrize("name", checks())
def test_a_check_is_the_same_in_psql(
    name: str, postgres: Postgres, filled: str, schema: str, tmp_path: Path
) -> None:
    file = query(f"doctor/{name}")
    limits = dict.fromkeys(file.types, 1000)
    both = Both(postgres, filled, schema, schema, tmp_path)
    psql, library = both.by_psql(file, limits), both.by_library(file, limits)
    assert psql.columns == library.columns == tuple(f.name for f in fields(Finding))[1:]
    assert psql.rows
    # How old or large something is differs from one moment to the next.
    assert sorted(row[:2] for row in psql.rows) == sorted(row[:2] for row in library.rows)


def test_psql_needs_no_limits(postgres: Postgres, filled: str, schema: str, tmp_path: Path) -> None:
    both = Both(postgres, filled, schema, schema, tmp_path)
    every = [("-f", str(query(f"doctor/{name}").path)) for name in checks()]
    shown = both.psql(*chain.from_iterable(every))
    assert shown.count(" verdict ") == len(checks())


def _run(place: Place, *arguments: str, role: str = "owner") -> tuple[int, str, str]:
    options = ["--dsn", place.role(role), "--schema", place.schema]
    done = forked.run([*options, *arguments], os.environ)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_exit_status_is_that_of_monitoring_plugins(place: Place) -> None:
    limit = "--limit=transaction_ids.{}=0"
    for arguments, role, code in (
        ([], "owner", 0),
        (["--only=sequences"], "reader", 3),
        (["--only=transaction_ids", limit.format("warn")], "reader", 1),
        (["--only=sequences", "--only=transaction_ids", limit.format("warn")], "reader", 1),
        (["--only=transaction_ids", limit.format("bad")], "reader", 2),
        (["--only=nothing"], "owner", 2),
        (["--limit=nothing.rows=1"], "owner", 2),
        (["--limit=transactions.rows=1"], "owner", 2),
        (["--limit=transactions=1"], "owner", 2),
        ([], "nobody", 3),
    ):
        done, out, err = _run(place, "doctor", *arguments, role=role)
        assert done == code, (arguments, out, err)
        assert "Traceback" not in err


def test_the_command_shows_what_is_found_and_what_to_do(place: Place) -> None:
    _orphaned(place)
    code, out, _ = _run(place, "doctor", "--only=orphan_chunks", "--only=sequences")
    head, orphans, sequences, advice = out.splitlines()
    assert head.split() == ["check", "verdict", "object", "value", "limit"]
    assert orphans.split() == ["orphan_chunks", "warn", "jobs", "such", "as", str(DONE), "1", "0"]
    assert sequences.split()[:2] == ["sequences", "ok"]
    assert advice.startswith(f"orphan_chunks, jobs such as {DONE}: ")
    assert code == 1
    code, out, _ = _run(place, "doctor", "--only=orphan_chunks", "--format=json")
    (one,) = json.loads(out)
    assert [*one] == [f.name for f in fields(Finding)]
    assert (code, one["verdict"], one["number"]) == (1, "warn", 1.0)


def test_prometheus_gets_each_verdict_and_value(place: Place) -> None:
    _orphaned(place)
    code, out, _ = _run(place, "metrics", "--doctor", "--format=prometheus")
    lines = out.splitlines()
    assert code == 0
    assert 'butido_check{check="orphan_chunks"} 1' in lines
    assert 'butido_check{check="sequences"} 0' in lines
    value = f'butido_check_value{{check="orphan_chunks",object="jobs such as {DONE}"}} 1.0'
    assert value in lines
    assert [line for line in lines if line.startswith("# TYPE butido_check")] == [
        "# TYPE butido_check gauge",
        "# TYPE butido_check_value gauge",
    ]
    assert {line.split('"')[1] for line in lines if line.startswith("butido_check{")} == {*checks()}
    assert "butido_check" not in _run(place, "metrics", "--format=prometheus")[1]


def test_a_standby_says_what_it_cannot_see_and_how_far_it_is_behind(short_directory: Path) -> None:
    pair = Pair(short_directory, {})
    with pair.running():
        with Store.connect(pair.standby.dsn) as store:
            found = {one.check: one for one in examine(store)}
            assert {name for name in found if found[name].verdict == "unknown"} == {
                "dead_rows",
                "unused_indexes",
                "vacuum_age",
            }
            assert (found["replication"].verdict, found["replication"].object) == (
                "ok",
                "this standby",
            )
        with Store.connect(pair.primary.dsn) as store:

            def lag(**limits: int) -> Finding:
                return store.run(check("replication", **limits))[0]

            assert (lag().verdict, lag().object) == ("ok", "standby standby")
            pair.freeze()
            with psycopg.connect(pair.primary.dsn, autocommit=True) as connection:
                connection.execute("SET synchronous_commit = local")
                connection.execute(
                    "CREATE TABLE more AS SELECT n FROM generate_series(1, 999) AS n"
                )
            assert lag(bytes=1000).verdict == "warn"
            pair.thaw()
            while lag(bytes=1000).verdict != "ok":
                time.sleep(0.01)
