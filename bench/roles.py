"""What row-level security costs: jobs written by the builder of schema/roles.sql, and by a
superuser, whom no policy binds, in turns; short ones, so that both have what else the machine does.

Run it with `./dev run python bench/roles.py`: on a server of its own, or on yours with --dsn.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from peers.store import Library
from psycopg.conninfo import make_conninfo
from server import database, server, unflushed
from workload import submits

from butido_store import Store, job
from butido_store._query import directory
from butido_store.embedded import find_binaries
from butido_store.job import EndedJob

ROLES = ("butido_builder", "none")


def record(store: Store, one: EndedJob) -> None:
    """Record a job that has ended."""
    store.run(job.record(one))


def live(store: Store, one: EndedJob) -> None:
    """Start a job, append to its log twice, and end it."""
    store.run(
        job.start(
            one.uuid,
            submit=one.submit,
            package=one.package,
            version=one.version,
            image=one.image,
            endpoint=one.endpoint,
            started_at=one.started_at,
            script=one.script,
            env=one.env,
        )
    )
    for seq in range(2):
        store.run(job.append_log(one.uuid, seq=seq, data=one.log))
    store.run(
        job.finish(one.uuid, state=one.state, finished_at=datetime.now(UTC), outputs=one.outputs)
    )


def measure(
    dsn: str, write: Callable[[Store, EndedJob], None], *, turns: int, jobs: int
) -> dict[str, list[float]]:
    """Return the jobs in a second of each turn, by role.

    :param dsn: of a store on which schema/roles.sql was run
    :param write: what is measured
    :param turns: how many each has
    :param jobs: how many jobs a turn is, in twenties
    """
    found: dict[str, list[float]] = {role: [] for role in ROLES}
    made = submits(time.time_ns())
    with ExitStack() as stack:
        library = stack.enter_context(Library(dsn))
        stores = {
            role: stack.enter_context(Store.connect(make_conninfo(dsn, options=f"-c role={role}")))
            for role in ROLES
        }

        def turn(store: Store) -> float:
            batch = [next(made) for _ in range(jobs // 20)]
            for one in batch:
                library.create(one)
            start = time.perf_counter()
            for one in batch:
                for each in one.jobs:
                    write(store, each)
            return jobs / (time.perf_counter() - start)

        for number in range(-2, turns):
            # Each role begins as often as the other.
            for role in ROLES if number % 2 else ROLES[::-1]:
                rate = turn(stores[role])
                if number >= 0:
                    found[role].append(rate)
    return found


def ready(dsn: str | None, directory_: Path) -> Iterator[str]:
    """Lend a store with the roles, on a server of its own or on one that is given."""
    with server(directory_, dsn) as any_database:
        store = database(any_database, "butido_bench_roles")
        psql = find_binaries() / "psql"
        script = directory("schema") / "roles.sql"
        command = [psql if psql.is_file() else "psql", "-Xq", "-f", script, store]
        subprocess.run(command, check=True)
        with unflushed(store):
            yield store


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="of a superuser; by default a server of its own")
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=40, help="in a turn")
    parser.add_argument("--only", choices=["record", "live"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        for store in ready(options.dsn, Path(name)):
            for write in (record, live):
                if options.only not in (None, write.__name__):
                    continue
                found = measure(store, write, turns=options.turns, jobs=options.jobs)
                through, without = (found[role] for role in ROLES)
                ratios = [one / other for one, other in zip(through, without, strict=True)]
                print(
                    f"{write.__name__}: {statistics.median(through):.0f} jobs/s through row-level"
                    f" security, {statistics.median(without):.0f} without:"
                    f" {statistics.median(ratios):.3f} x"
                    f" ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} turns)"
                )


if __name__ == "__main__":
    main()
