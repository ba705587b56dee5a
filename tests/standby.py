"""A primary, and a standby that has to confirm each commit and that a test can freeze."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from filled import STATEMENTS, WRITTEN
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import TIME

from butido_store import Statement, Store, open_schema
from butido_store._query import directory
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server

Connection = psycopg.Connection[tuple[object, ...]]
Statements = Sequence[Statement[object]]

_PRIMARY = {
    "fsync": "off",
    "autovacuum": "off",
    # A restarted primary still has what the standby lacks.
    "wal_keep_size": "1GB",
}
# Of records, those that refer to others first; shared values stay.
_TABLES = (
    "release_withdrawal",
    "release",
    "job_input_artifacts",
    "artifact",
    "job_log_chunk",
    "reuse",
    "job",
    "submit",
)


def _samples() -> Iterator[tuple[str, Statements, Statements]]:
    """Yield a sample of each write that there is: its name, what is there before, and the write."""
    writes = [(WRITTEN[:number], statement) for number, statement in enumerate(WRITTEN)]
    writes += [(WRITTEN, statement) for statement in STATEMENTS if statement.writes]
    seen = set()
    for before, statement in writes:
        steps = tuple(step.query.name for step in statement.steps)
        if steps not in seen:
            seen.add(steps)
            yield " ".join(steps), before, [statement]
    # The last piece of a log, the end of its job, and another job.
    yield "several", WRITTEN[:5], WRITTEN[5:9]


# Each has a schema of its own, so that all of them can wait for the standby at once.
SAMPLES = {
    f"write {number:02} {name}"[:63]: (before, statements)
    for number, (name, before, statements) in enumerate(_samples())
}

Wait = tuple[str, int, object]


class Pair:
    """A primary and its synchronous standby."""

    def __init__(self, place: Path, samples: Mapping[str, tuple[Statements, Statements]]) -> None:
        """Make the primary's data, with a schema for each sample in which it was run once."""
        self.primary = Server(place / "a", settings=_PRIMARY)
        self._place = place
        self._samples = samples
        self._frozen: int | None = None
        self._state = "sync"
        with self.primary:
            with self._session() as connection:
                Migrator(connection).apply()
            for name in samples:
                with self._session() as connection:
                    _make_schema(connection, name)
                    for statements in filter(None, samples[name]):
                        _run(connection, name, statements)
        self.standby = Server(
            place / "b",
            settings={
                "fsync": "off",
                "primary_conninfo": f"{self.primary.dsn} application_name=standby",
                "wal_retrieve_retry_interval": "50ms",
                # What is in the way of what the primary did is ended.
                "max_standby_streaming_delay": "0",
            },
        )

    @contextmanager
    def running(self, *, synchronous: bool = True) -> Iterator[None]:
        """Have both run, and commits wait for the standby unless it is not synchronous."""
        self._state = "sync" if synchronous else "async"
        names = "standby" if synchronous else ""
        copy = self._place / "b" / "data"
        copy.parent.mkdir(mode=0o755)
        # With its owner, whom the server runs as.
        subprocess.run(["cp", "-a", self._place / "a" / "data", copy], check=True)
        (copy / "standby.signal").touch()
        with self.primary, self.standby:
            with psycopg.connect(self.primary.dsn, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(names)
                )
                connection.execute("SELECT pg_reload_conf()")
            self.until_it_confirms()
            try:
                yield
            finally:
                # It would be left over: a stopped process takes no notice of its server's end.
                self.thaw()

    def dsn(self, name: str) -> str:
        """DSN for the sample of this name, whose connections have the name, too."""
        return make_conninfo(self.primary.dsn, application_name=name)

    def reset(self) -> None:
        """Leave what there is before each sample, and every shared value."""
        for name, (before, _) in self._samples.items():
            with self._session() as connection:
                with connection.transaction():
                    for table in _TABLES:
                        connection.execute(
                            sql.SQL("DELETE FROM {}").format(sql.Identifier(name, table))
                        )
                if before:
                    _run(connection, name, before)
                    # As if its builder were silent.
                    connection.execute(
                        sql.SQL("UPDATE job SET heartbeat_at = {} WHERE state = 'running'").format(
                            TIME - timedelta(days=9999)
                        )
                    )

    def _session(self) -> Connection:
        """Open a session on the primary, for one schema: what it prepares has the types of that."""
        return psycopg.connect(self.primary.dsn, autocommit=True)

    def until_it_confirms(self) -> None:
        """Wait until the standby is there, and the server counts on it if it is synchronous."""
        _until(
            self.primary,
            "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'"
            f" AND sync_state = '{self._state}'",
        )

    def freeze(self) -> None:
        """Stop what receives the WAL on the standby."""
        (pid,) = _until(self.standby, "SELECT pid FROM pg_stat_wal_receiver WHERE pid IS NOT NULL")
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGSTOP)
        self._frozen = pid

    def thaw(self) -> None:
        """Let the standby receive again."""
        if self._frozen:
            os.kill(self._frozen, signal.SIGCONT)
            self._frozen = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have the standby receive what is written, and not show it."""
        with psycopg.connect(self.standby.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
            try:
                while True:
                    # It takes notice when something comes.
                    with psycopg.connect(self.primary.dsn, autocommit=True) as writing:
                        writing.execute("SELECT pg_logical_emit_message(TRUE, '', '')")
                    state = connection.execute("SELECT pg_get_wal_replay_pause_state()")
                    if state.fetchone() == ("paused",):
                        break
                yield
            finally:
                connection.execute("SELECT pg_wal_replay_resume()")

    def waits(self) -> set[Wait]:
        """Return which samples' commits wait for the standby, with what tells one from the next."""
        with psycopg.connect(self.primary.dsn, autocommit=True) as connection:
            return set(
                connection.execute(
                    "SELECT application_name, pid, xact_start FROM pg_stat_activity"
                    " WHERE (wait_event_type, wait_event) = ('IPC', 'SyncRep')"
                    " AND application_name LIKE 'write %'"
                )
            )

    def signal(self, function: str, waits: set[Wait]) -> None:
        """Cancel, or terminate, what waits."""
        with psycopg.connect(self.primary.dsn, autocommit=True) as connection:
            for _, pid, _ in waits:
                connection.execute(sql.SQL("SELECT {}({})").format(sql.Identifier(function), pid))

    def kill(self, server: Server | None = None) -> None:
        """Kill the primary, or the standby; what else it runs ends when it notices."""
        pid = (server or self.primary).status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def restart(self, server: Server | None = None) -> None:
        """Start the primary, or the standby, after it was killed."""
        # As one more user of it: the first is still there, so that leaving does not stop it.
        with server or self.primary:
            pass

    def begin_timeline(self) -> None:
        """Have the primary begin another timeline, which the standby follows into."""
        self.kill()
        (self._place / "a" / "data" / "standby.signal").touch()
        self.restart()
        with psycopg.connect(self.primary.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        self.until_it_confirms()

    def fail_over(self) -> None:
        """Lose the primary, and have the standby take its place."""
        self.kill()
        # What was sent after it was frozen is lost with it. The standby starts anew.
        if self._frozen:
            os.kill(self._frozen, signal.SIGKILL)
            self._frozen = None
        promoted = False
        while not promoted:
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self.standby.dsn, autocommit=True) as connection,
            ):
                connection.execute("SELECT pg_promote() WHERE pg_is_in_recovery()")
                promoted = connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def _run(connection: Connection, schema: str, statements: Statements) -> None:
    open_schema(connection, schema)
    Store(connection).run(*statements)


def _make_schema(connection: Connection, name: str) -> None:
    """Make a schema that is where the migrations lead, and takes them for applied."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(name)))
    connection.execute((directory("schema") / "schema.sql").read_bytes())
    connection.execute("CREATE TABLE _yoyo_migration AS TABLE butido._yoyo_migration")


def _until(server: Server, query: str) -> tuple[object, ...]:
    """Ask until there is a row."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        while (row := connection.execute(query.encode()).fetchone()) is None:
            time.sleep(0.01)
    return row


@pytest.fixture(scope="session")
def _pair() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        pair = Pair(Path(name), SAMPLES)
        with pair.running():
            yield pair


@pytest.fixture
def pair(_pair: Pair) -> Iterator[Pair]:
    """A primary and a standby that confirms, with what there is before each sample."""
    _pair.until_it_confirms()
    _pair.reset()
    yield _pair
    _pair.thaw()
