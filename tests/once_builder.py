"""A builder that does all builds in an order of its own, each once; the process that is killed.

Run as: once_builder.py DSN SCHEMA SUBMIT SEED BUILDS SILENT_FOR. Its jobs are at an endpoint of its
own. Of each build that it begins it says so, and goes on when it is told to.
"""

import os
import random
import sys
from datetime import timedelta
from uuid import UUID

from butido_store import Store, build, uuid7
from butido_store.artifact import Output


def main(dsn: str, schema: str, submit: str, seed: str, builds: str, silent_for: str) -> None:
    """Do all builds, or take the results of others."""
    order = random.Random(seed).sample(range(int(builds)), int(builds))
    limit = timedelta(seconds=float(silent_for))
    with Store.connect(dsn, schema=schema) as store:
        for number in order:
            one = build(
                store,
                uuid7(),
                submit=UUID(submit),
                package="once",
                version=str(number),
                image="debian:12",
                endpoint=f"builder-{os.getpid()}",
                script="make",
                env={},
                heartbeat=limit / 20,
                once=limit,
            )
            with one as running:
                if running.reuse:
                    continue
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()
                sys.stdin.readline()
                output = Output("out", number.to_bytes(32), 1)
                running.finish("success", [output])


if __name__ == "__main__":
    main(*sys.argv[1:])
