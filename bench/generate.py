"""Fill an empty store with generated jobs, for the other measurements: seconds, and bytes on disk.

Run it with `./dev run python bench/generate.py --jobs 1000000`: on the embedded server's database,
or with --dsn on one of yours, that `butido-store migrate apply` has prepared. What is generated is
in generate.sql.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg

from butido_store._query import tokenize
from butido_store._target import Target

_FILE = Path(__file__).with_suffix(".sql")


def statements(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Cut a file of several statements into them, with the names of each one's parameters.

    :param path: the file
    """
    text, names = "", list[str]()
    for token in tokenize(path.read_text(encoding="utf-8"), path):
        match token.kind:
            case "end":
                yield text, names
                text, names = "", []
            case "parameter":
                names.append(token.name)
                text += f"${len(names)}::{token.type}"
            case "line":
                pass
            case _:
                text += token.text


def generate(dsn: str, *, schema: str = "butido", jobs: int, until: date) -> None:
    """Fill a store, telling of each statement that took a while.

    :param dsn: a database with a store that has no jobs
    :param schema: the schema that holds the store
    :param jobs: how many jobs
    :param until: the end of the year that they are spread over
    """
    given: dict[str, object] = {"jobs": jobs, "until": until}
    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        psycopg.RawCursor(connection) as cursor,
    ):
        cursor.execute("SELECT set_config('search_path', quote_ident($1), false)", [schema])
        # Days and times without a zone are UTC: the same rows wherever this runs.
        cursor.execute("SET timezone = 'UTC'")
        cursor.execute("SELECT EXISTS (SELECT FROM job) OR EXISTS (SELECT FROM package)")
        if cursor.fetchone() != (False,):
            sys.exit("the store is not empty")
        for text, names in statements(_FILE):
            start = time.monotonic()
            cursor.execute(text.strip().encode(), [given[name] for name in names], prepare=False)
            if (seconds := time.monotonic() - start) > 0.5:
                print(f"{seconds:6.1f} s  {' '.join(text.split())[:70]}", flush=True)
        cursor.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        print(f"database: {(cursor.fetchone() or ('',))[0]}")


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="by default the embedded server's")
    parser.add_argument("--schema", default="butido")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument(
        "--until",
        type=date.fromisoformat,
        default=datetime.now(UTC).date(),
        help="end of the year that the jobs are spread over, YYYY-MM-DD; by default today",
    )
    options = parser.parse_args()
    start = time.monotonic()
    with Target(options.dsn) as target:
        generate(target.dsn, schema=options.schema, jobs=options.jobs, until=options.until)
    print(f"{options.jobs} jobs in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
