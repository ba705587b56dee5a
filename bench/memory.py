"""How much memory the client takes at most: for a log of 200 MB, and for a listing of all jobs.

Each is measured in a process of its own: `python bench/memory.py WHAT DSN` prints the megabytes
that it took more than it had when it was connected.
"""

import resource
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

_MB = 200


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _run(what: str, dsn: str) -> None:
    from peers.store import Library
    from workload import submits

    from butido_store import Store, job, report

    with Store.connect(dsn) as store, Library(dsn) as library:
        (one,) = islice(submits(time.time_ns()), 1)
        library.create(one)
        library.record(one.jobs[:1])
        given = one.jobs[1]
        line = b"x" * 79 + b"\n"
        if what == "log in one piece":
            given = replace(given, log=line * (_MB * 12500))
        before = _peak()
        match what:
            case "log in one piece":
                store.run(job.record(given))
            case "log in pieces":
                import logs

                logs.append(dsn, _MB * 1000)
            case "listing, streamed":
                for _ in store.stream(report.jobs(limit=None)):
                    pass
            case "listing, as a list":
                store.run(report.jobs(limit=None))
        print(_peak() - before)


def measure(what: str, dsn: str) -> int:
    """Return the megabytes that something takes at most.

    :param what: one of the cases above
    :param dsn: of a store
    """
    command = [sys.executable, str(Path(__file__)), what, dsn]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    _run(*sys.argv[1:])
