"""Many processes record jobs that share values in random orders: deadlocks, losses, ids burnt.

Run it with `./dev run python bench/contention.py --processes 8 --seconds 60`: on a database of its
own on the embedded server, or with --dsn on an empty one of yours.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg

from butido_store import Store, job, report, submit, uuid7
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server
from butido_store.errors import StoreError

_SEQUENCES = ("envvar", "environment", "package", "image", "endpoint", "git_hash")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: jobs acknowledged and found, errors, and rows and ids used by table."""

    acknowledged: int
    found: int
    errors: Sequence[str]
    rows: dict[str, int]
    used_ids: dict[str, int]

    @property
    def burnt(self) -> int:
        """Return how many ids were used without a row that has them."""
        return sum(self.used_ids.values()) - sum(self.rows.values())


def _write(dsn: str, schema: str, seed: int, seconds: float) -> tuple[list[UUID], str]:
    """Record jobs until time is up; return those that were acknowledged, and what went wrong."""
    choose = random.Random(seed)
    done: list[UUID] = []
    until = time.monotonic() + seconds
    try:
        # No second attempt: a deadlock has to show.
        with Store.connect(dsn, schema=schema, retry_for=0) as store:
            while time.monotonic() < until:
                done += _record(store, choose)
    except StoreError as error:
        return done, f"{type(error).__name__}: {error}"
    return done, ""


def _record(store: Store, choose: random.Random) -> list[UUID]:
    """Record a submit of three jobs whose shared values come from a common stock, shuffled."""
    now, of_submit = datetime.now(UTC), uuid7()
    # The stock grows with the second, so that there is always something that several add at once.
    stock = [(f"V{n}", f"{int(now.timestamp())}-{n % 7}") for n in range(60)]

    def env() -> dict[str, str]:
        return dict(choose.sample(stock, 15))

    package = f"p{choose.randrange(50)}"
    version = f"1.{int(now.timestamp())}"
    image = f"image:{choose.randrange(9)}"
    node = {"name": package, "version": version, "dependencies": []}
    request = submit.create(
        of_submit,
        timestamp=now,
        package=package,
        version=version,
        image=image,
        repo_hash=f"{choose.randrange(2**16):040x}",
        tree={"root": 0, "nodes": [node]},
        buildplan={"jobs": []},
        env=env(),
    )
    uuids = [uuid7() for _ in range(3)]
    starts = [
        job.start(
            uuid,
            submit=of_submit,
            package=f"p{choose.randrange(50)}",
            version=version,
            image=f"image:{choose.randrange(9)}",
            endpoint=f"host-{choose.randrange(5)}",
            started_at=now,
            script="make\n",
            env=env(),
        )
        for uuid in uuids
    ]
    ends = [job.finish(uuid, state="success", finished_at=now) for uuid in uuids]
    if choose.random() < 0.5:
        store.run(request, *starts, *ends)
    else:
        for statement in (request, *starts, *ends):
            store.run(statement)
    return uuids


def contend(dsn: str, *, schema: str = "butido", processes: int, seconds: float) -> Result:
    """Have processes record jobs at the same time, and count what came of it.

    :param dsn: a migrated and otherwise empty database
    :param schema: the schema that holds the store
    :param processes: how many processes
    :param seconds: for how long
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        answers = pool.starmap(_write, [(dsn, schema, seed, seconds) for seed in range(processes)])
    acknowledged = [uuid for done, _ in answers for uuid in done]
    with Store.connect(dsn, schema=schema) as store:
        found = store.run(report.jobs(limit=None, state="success"))
    rows, used_ids = {}, {}
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
        for table in _SEQUENCES:
            counted = connection.execute(
                f"SELECT count(*), (SELECT last_value FROM {table}_id_seq) - min(id) + 1"
                f" FROM {table}".encode()
            ).fetchone()
            assert counted is not None
            rows[table], used_ids[table] = counted
    return Result(
        len(acknowledged),
        len({one.uuid for one in found} & set(acknowledged)),
        [error for _, error in answers if error],
        rows,
        used_ids,
    )


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with ExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="butido-")))
            directory.chmod(0o755)
            dsn = stack.enter_context(Server(directory)).dsn
        with psycopg.connect(dsn, autocommit=True) as connection:
            Migrator(connection).apply()
        result = contend(dsn, processes=options.processes, seconds=options.seconds)
    print(f"jobs acknowledged {result.acknowledged}, found {result.found}")
    print(f"errors: {len(result.errors)} {'; '.join(result.errors)}")
    for table in _SEQUENCES:
        print(f"{table}: {result.rows[table]} rows, {result.used_ids[table]} ids used")
    print(f"ids burnt by races: {result.burnt} of {sum(result.used_ids.values())}")


if __name__ == "__main__":
    main()
