"""The command line: `python examples/wheelhouse flask --directory wheelhouse`."""

import argparse
import os
import signal
import sys
from functools import partial
from pathlib import Path
from threading import Event, Lock

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Found whether it runs by its path, as a module, or out of the installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from butido_store import Store, job
from butido_store.errors import StoreError
from wheelhouse.builder import Summary, build
from wheelhouse.machine import Interrupted, WheelhouseError
from wheelhouse.plan import Package
from wheelhouse.work import Result

LOG_LINES = 20
INTERRUPTED = 130  # exit code, as shells have it


def main() -> int:
    """Build what the command line asks for, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="wheelhouse", description="Build the wheels of a requirement and of all it depends on."
    )
    parser.add_argument("requirement", help="what to build, as pip takes it: flask, or 'rich>=14'")
    parser.add_argument(
        "--directory", type=Path, required=True, help="where sources and wheels are kept"
    )
    parser.add_argument(
        "--dsn",
        default=os.environ.get("BUTIDO_STORE_DSN"),
        help="of the store; else $BUTIDO_STORE_DSN, libpq's environment or the embedded server",
    )
    parser.add_argument("--schema", default="butido", help="that holds the store (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="builds at a time (%(default)s)")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("--workers must be at least 1")

    # With SIGCHLD inherited as ignored, every build would look successful.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A signal only sets this; what runs looks at it, so that nothing breaks off halfway.
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    connect = partial(Store.connect, arguments.dsn, schema=arguments.schema)
    console = Console()
    if not console.is_terminal:
        console.width = 170  # no window that a table has to fit into
    try:
        with console.status(f"asking pip what {arguments.requirement} needs") as status:
            last: dict[str, str] = {}
            lock = Lock()

            def tell(package: Package, what: str, line: str) -> None:
                """Show each step, and on a terminal the last line of each running build."""
                with lock:
                    if line:
                        last[package.name] = f"{package}: {line.strip()}"
                    else:
                        last.pop(package.name, None)
                        console.print(f"{package}: {what}", highlight=False, markup=False)
                    text = "\n".join([f"building {arguments.requirement}", *last.values()])
                    status.update(Text(text, no_wrap=True, overflow="ellipsis"))

            summary = build(
                arguments.requirement,
                arguments.directory,
                connect,
                workers=arguments.workers,
                stop=stop,
                tell=tell,
            )
        failed = [result for result in summary.results if result.outcome == "failed"]
        show(console, summary)
        with connect() as store:
            for result in failed:
                show_log(console, result, store)
    except Interrupted:
        print("wheelhouse: interrupted before anything was built", file=sys.stderr)
        return INTERRUPTED
    except (WheelhouseError, StoreError, OSError) as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    return INTERRUPTED if stop.is_set() else 1 if failed else 0


def show(console: Console, summary: Summary) -> None:
    """Show what became of each package."""
    console.print(f"[bold]submit[/] {summary.submit}", highlight=False)
    # As the tables of butido-store are. A job's uuid is not broken, so that it can be copied.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("package", "version", "outcome", "seconds", "job"):
        table.add_column(
            heading,
            justify="right" if heading == "seconds" else "left",
            no_wrap=heading == "job",
        )
    missing = {result.package.name for result in summary.results if not result.wheel}
    for result in summary.results:
        table.add_row(
            result.package.name,
            result.package.version,
            explain(result, missing),
            f"{result.seconds:.1f}" if result.seconds else "",
            str(result.job or ""),
        )
    console.print(table)


def explain(result: Result, missing: set[str]) -> str:
    """Say what happened to a package, and why."""
    if result.outcome == "not built":
        return f"not built: needs {', '.join(sorted(missing & {*result.package.needs}))}"
    return result.outcome


def show_log(console: Console, result: Result, store: Store) -> None:
    """Show how the log of a failed job ends."""
    console.rule(f"{result.package}, end of the log of job {result.job}", align="left")
    assert result.job is not None
    for line in store.run(job.log(result.job)).splitlines()[-LOG_LINES:]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
