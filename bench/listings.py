"""The newest 50 of each listing report, by each single filter, against SELECT 1; and their plans.

Run it with `./dev run python bench/listings.py` on a store that bench/generate.py has filled: the
embedded server's, or with --dsn one of yours. Each statement is sent as the library sends it and
takes turns with SELECT 1 on the same connection, prepared as the driver does it. The number is the
median. At the end stands whatever took 20 times SELECT 1 or more, or read all of a large table.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from butido_store._query import query, read
from butido_store._target import Target

_LIMIT = 50
_TIMES_SELECT_1 = 20
_SECONDS = 10
_LARGE = ("job", "environment_envvar", "job_input_artifacts", "artifact", "submit")


@dataclass(frozen=True, slots=True)
class Case:
    """A listing with one filter: its value, of which kind that is, and how many rows have it."""

    report: str
    filter: str
    kind: str
    value: str
    uses: int | None

    @property
    def statement(self) -> tuple[bytes, list[object]]:
        """Return the text of the statement, and its parameters."""
        given: dict[str, object] = {"limit": _LIMIT}
        if self.filter:
            given[self.filter] = self.value
        return query(f"report/{self.report}").render(frozenset(given)).bind(given)

    def __str__(self) -> str:
        uses = "" if self.uses is None else f"{self.uses}"
        return f"{self.report:9}  {self.filter:11}  {self.kind:7}  {uses:>7}"


def cases(cursor: psycopg.RawCursor[tuple[object, ...]]) -> list[Case]:
    """Choose the values from what the store holds.

    :param cursor: of a session whose search path is the store's
    """
    file = Path(__file__).with_suffix(".sql")
    cursor.execute(read(file, file.parent).render(frozenset()).sql.encode())
    return [Case(*row) for row in cursor.fetchall()]  # type: ignore[arg-type]


def measure(
    cursor: psycopg.RawCursor[tuple[object, ...]], case: Case, runs: int
) -> tuple[float, float]:
    """Return the seconds that a case and SELECT 1 take, in turns, each the median.

    :param cursor: of the session to measure in
    :param case: what to measure
    :param runs: how many times
    """
    text, parameters = case.statement
    taken: dict[str, list[float]] = {"case": [], "select": []}
    # psycopg prepares at the sixth run, and the server may settle on a plan five runs after that.
    began, turn = time.perf_counter(), -12
    # One that takes seconds is not asked as often, and its plan is settled on by then or never.
    while turn < runs and (time.perf_counter() - began < _SECONDS or not taken["case"]):
        turn = max(turn, 0) if time.perf_counter() - began > _SECONDS else turn
        for what, sql, values in (("case", text, parameters), ("select", b"SELECT 1", [])):
            start = time.perf_counter()
            cursor.execute(sql, values)
            cursor.fetchall()
            if turn >= 0:
                taken[what].append(time.perf_counter() - start)
        turn += 1
    return statistics.median(taken["case"]), statistics.median(taken["select"])


def nodes(
    cursor: psycopg.RawCursor[tuple[object, ...]],
    sql: bytes,
    parameters: Sequence[object],
    *,
    analyze: bool = False,
) -> list[dict[str, object]]:
    """Return the nodes of the plan, each as EXPLAIN tells of it.

    :param cursor: of a session whose search path is the store's
    :param sql: what to explain
    :param parameters: its parameters
    :param analyze: whether to run it, and tell what it read
    """

    def walk(node: dict[str, object]) -> Iterator[dict[str, object]]:
        yield node
        below = node.get("Plans")
        for child in below if isinstance(below, list) else []:
            yield from walk(child)

    options = b"ANALYZE, TIMING OFF, FORMAT JSON" if analyze else b"FORMAT JSON"
    cursor.execute(b"EXPLAIN (" + options + b") " + sql, parameters)
    ((plan,),) = cursor.fetchall()
    return list(walk((plan if isinstance(plan, list) else json.loads(str(plan)))[0]["Plan"]))


def scans(
    cursor: psycopg.RawCursor[tuple[object, ...]], sql: bytes, parameters: Sequence[object]
) -> set[str]:
    """Return the large tables that the plan reads in full.

    :param cursor: of a session whose search path is the store's
    :param sql: what to explain
    :param parameters: its parameters
    """
    return {
        str(node["Relation Name"])
        for node in nodes(cursor, sql, parameters)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _LARGE
    }


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="by default the embedded server's")
    parser.add_argument("--schema", default="butido")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="", help="one report, or report and filter: jobs.env")
    options = parser.parse_args()
    missed: list[str] = []
    with (
        Target(options.dsn) as target,
        psycopg.connect(target.dsn, autocommit=True) as connection,
        psycopg.RawCursor(connection) as cursor,
    ):
        cursor.execute("SELECT set_config('search_path', quote_ident($1), false)", [options.schema])
        print(f"{'report':9}  {'filter':11}  {'value':7}  {'rows':>7}  {'ms':>10}  {'ratio':>6}")
        for case in cases(cursor):
            if not f"{case.report}.{case.filter}".startswith(options.only):
                continue
            taken, least = measure(cursor, case, options.runs)
            slow = taken >= _TIMES_SELECT_1 * least
            line = f"{case}  {taken * 1000:10.3f}  {taken / least:6.1f}"
            if found := scans(cursor, *case.statement):
                line += f"  reads all of {', '.join(sorted(found))}"
            line += "  <-- slow" if slow else ""
            print(line, flush=True)
            if slow or found:
                missed.append(line)
    print(f"\n{len(missed)} read all of a large table or take {_TIMES_SELECT_1} times SELECT 1")
    print("\n".join(missed))


if __name__ == "__main__":
    main()
