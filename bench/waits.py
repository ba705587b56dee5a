"""How long readers and writers wait for a migration that is behind a long transaction.

Run it with `./dev run python bench/waits.py --seconds 30`. A transaction that has read `job` stays
open for so long, while a migration tries for an ACCESS EXCLUSIVE lock on it, and the library reads
and writes. What each call took is compared with the same without a migration.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psycopg
from server import database
from workload import submits

from butido_store import Store, job, report
from butido_store.admin.migrate import Migrator, shipped
from butido_store.embedded import Server

_HEADER = """\
-- Add a column.
--
-- Phase:     pre
-- Locks:     ACCESS EXCLUSIVE on job
-- Duration:  instant
-- Rollback:  loses job.note

"""
_WAIT = "SET LOCAL lock_timeout = '150ms';\n"


def _write(dsn: str, number: int, stop: threading.Event, took: list[float]) -> None:
    with Store.connect(dsn) as store:
        for one in submits(number):
            store.run(one.created())
            for ended in one.jobs:
                if stop.is_set():
                    return
                start = time.monotonic()
                store.run(job.record(ended))
                took.append(time.monotonic() - start)


def _read(dsn: str, number: int, stop: threading.Event, took: list[float]) -> None:
    with Store.connect(dsn) as store:
        while not stop.is_set():
            start = time.monotonic()
            store.run(report.jobs(limit=1))
            took.append(time.monotonic() - start)


def _load(dsn: str, seconds: float, *, migrate: Path | None) -> tuple[list[float], list[float]]:
    """Let the library work, and return what each read and each write took."""
    reads: list[float] = []
    writes: list[float] = []
    stop = threading.Event()
    threads = [
        threading.Thread(target=work, args=(dsn, number, stop, took))
        for number, (work, took) in enumerate(
            [(_read, reads), (_read, reads), (_write, writes), (_write, writes)], 1
        )
    ]
    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        psycopg.connect(dsn) as long,
    ):
        long.execute("SELECT FROM butido.job")
        for thread in threads:
            thread.start()
        if migrate is None:
            time.sleep(seconds)
        else:
            timer = threading.Timer(seconds, long.rollback)
            timer.start()
            told: list[str] = []
            Migrator(connection, directory=migrate, tell=told.append).apply()
            print(f"{len(told)} attempts had to wait; the last: {told[-1]}")
        stop.set()
        for thread in threads:
            thread.join()
    return reads, writes


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        place = Path(name)
        place.chmod(0o755)
        migrations = place / "migrations"
        migrations.mkdir()
        for file in shipped():
            for path in (file.path, file.rollback_path):
                (migrations / path.name).write_bytes(path.read_bytes())
        note = "ALTER TABLE job {} COLUMN note{};\n"
        up = _HEADER + _WAIT + note.format("ADD", " text")
        (migrations / "9001.note.sql").write_text(up)
        down = "-- Drop it.\n\n" + _WAIT + note.format("DROP", "")
        (migrations / "9001.note.rollback.sql").write_text(down)
        with Server(place / "server") as server:
            dsn = database(server.dsn, "butido_waits")
            for what, directory in (("without", None), ("with", migrations)):
                for kind, took in zip(
                    ("read", "write"), _load(dsn, seconds, migrate=directory), strict=True
                ):
                    took.sort()
                    middle, high = took[len(took) // 2], took[int(len(took) * 0.99)]
                    print(
                        f"{what} a migration, a {kind}: median {middle * 1000:.1f} ms, p99 "
                        f"{high * 1000:.1f} ms, longest {took[-1] * 1000:.0f} ms of {len(took)}"
                    )


if __name__ == "__main__":
    main()
