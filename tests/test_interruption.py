"""Exceptions that come at any moment: a store goes on, and what it wrote is whole."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from samples import create, finish, start

from butido_store import Store, job, report, uuid7
from butido_store.errors import StoreError

Connect = Callable[[], psycopg.Connection[tuple[object, ...]]]

pytestmark = pytest.mark.any_server


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_store_survives_exceptions_at_any_moment(kind: str, dsn: str, schema: str) -> None:
    """With 400 of them; by hand, `--hypothesis-profile thorough`, with thousands."""
    rounds = 5000 if settings.get_current_profile_name() == "thorough" else 400
    program = Path(__file__).with_name("interrupted.py")
    ran = subprocess.run(
        [sys.executable, program, kind, dsn, schema, str(rounds)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    # Else they came too late to be in anybody's way.
    assert int(ran.stdout) > rounds / 10


@pytest.mark.parametrize("kind", ["own", "callers"])
def test_a_signal_handler_runs_something_in_the_midst_of_a_run(
    kind: str, dsn: str, schema: str, connect: Connect
) -> None:
    """On a connection of the store's own; on the caller's it is told that this cannot be."""
    holder, observer, uuid, said = connect(), connect(), uuid7(), list[object]()
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"

    def interrupt() -> None:
        while not observer.execute(waiting, [holder.info.backend_pid]).rowcount:
            pass
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def handle(*_: object) -> None:
        try:
            said.append(store.run(report.endpoints()))
        except StoreError as error:
            said.append(str(error))
        holder.execute("COMMIT")

    with Store.connect(dsn, schema=schema) if kind == "own" else nullcontext() as own:
        store = own or Store(connect())
        store.run(create(of_submit := uuid7()), start(uuid, of_submit))
        holder.execute("BEGIN")
        holder.execute("SELECT FROM job FOR UPDATE")
        before = signal.signal(signal.SIGUSR1, handle)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            store.run(finish(uuid))
        finally:
            signal.signal(signal.SIGUSR1, before)
            thread.join()
        assert store.run(job.get(uuid)).state == "success"
    (answer,) = said
    if kind == "own":
        assert isinstance(answer, list)
    else:
        assert "in the midst of a run" in str(answer)
