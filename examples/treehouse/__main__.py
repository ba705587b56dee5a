"""The command line: what is to be built where, and what became of it."""

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
from datetime import timedelta
from pathlib import Path

# The directory that holds the package, where it runs as `python examples/treehouse`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from butido_store import AsyncStore, job, report
from butido_store.errors import StoreError
from treehouse.plan import HOST, grow
from treehouse.work import work


async def run(arguments: argparse.Namespace) -> int:
    """Sweep what a killed run has left, build the tree, and show how its trunk was made."""
    silent = timedelta(seconds=arguments.silent_for)
    async with AsyncStore.pooled(arguments.dsn, schema=arguments.schema) as store:
        for lost in await store.run(job.sweep(silent_for=silent, endpoint=HOST)):
            print(f"lost   {lost}")
        made = await work(store, grow(arguments.compiler), arguments.directory, arguments.jobs)
        if made is None:
            return 1
        (provenance,) = await store.run(report.slsa(made.uuid))
        print(json.dumps(provenance.statement, indent=2))
        return 0


def main() -> int:
    """Run the builder.

    :returns: the exit code
    """
    parser = argparse.ArgumentParser(prog="treehouse", description="Build a tree of C objects.")
    add = parser.add_argument
    add("--dsn", default=os.environ.get("BUTIDO_STORE_DSN"), help="the database")
    add("--schema", default="butido", help="the schema that holds the store")
    add("--directory", type=Path, default=Path("treehouse"), help="where objects are kept")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="how many run at a time")
    compiler = "cc -O2 -nostdlib -r" if shutil.which("cc") else "sort"
    add("--compiler", default=compiler, help="takes -o, what to write, and what to read")
    add("--silent-for", type=float, default=60, help="seconds after which a job counts as lost")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    # The pool would warn of each connection whose write was cut off by a cancellation.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    try:
        code = asyncio.run(run(arguments))
    except* StoreError as failed:
        print(*failed.exceptions, sep="\n", file=sys.stderr)
        code = 1
    except* KeyboardInterrupt:
        print("interrupted: the jobs that were running are lost")
        code = 130
    return code


if __name__ == "__main__":
    sys.exit(main())
