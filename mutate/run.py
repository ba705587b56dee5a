"""Run what tests a query file, or a module of the core, against each small change of it.

`./dev mutate sql report/jobs` and `./dev mutate python _query`; without names all of them. What
each test uses is noted once and kept in `.mutate/`; a test file that has changed is run again.
"""

import argparse
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from butido_store import _query
from mutate.tokens import mutants

ROOT = Path(__file__).resolve().parent.parent
CORE = (
    *("_body", "_check", "_conversation", "_pipeline", "_query", "_reader", "_secrets"),
    *("_statement", "_target", "artifact", "job", "log", "release", "store", "submit"),
)
CACHE = ROOT / ".mutate"
# One that a broken session has failed is tried once more.
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one file: what it is called, what a test must use to notice it, and its diff."""

    file: str
    name: str
    uses: str
    text: str
    diff: str


def main() -> int:
    """Read the arguments, and say which mutants survived."""
    parser = argparse.ArgumentParser(prog="./dev mutate", description=__doc__)
    parser.add_argument("kind", choices=["sql", "python"])
    parser.add_argument("names", nargs="*", help="query files or modules; all, if not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--limit", type=float, default=120, help="seconds for a mutant's tests")
    parser.add_argument("--tests", nargs="+", default=[], help="only these test files")
    parser.add_argument("--most", type=int, help="at most this many mutants of a file, spread")
    parser.add_argument("--fresh", action="store_true", help="note again what each test uses")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        Path(name).chmod(0o755)
        rooms = [Path(name, str(number)) for number in range(given.jobs)]
        for room in rooms:
            _copy(room)
        found = [*(_of_queries(given.names) if given.kind == "sql" else _of_core(given.names))]
        if given.kind == "python":
            for room in rooms:
                _put_trampolines(room)
        return _report(given, rooms, _spread(found, given.most))


def _copy(room: Path) -> None:
    """Copy what is in git, as it stands here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (room / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, room / name)
    # What asks git for the files of the project finds them.
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=room, check=True)


def _spread(found: list[Mutant], most: int | None) -> list[Mutant]:
    if most is None:
        return found
    kept = []
    for file in dict.fromkeys(mutant.file for mutant in found):
        of_file = [mutant for mutant in found if mutant.file == file]
        kept += of_file[:: -(-len(of_file) // most)]
    return kept


# Mutants -----------------------------------------------------------------------------------------


def _of_queries(names: Sequence[str]) -> Iterator[Mutant]:
    for given in names or _query.names():
        name = given.removeprefix("sql/").removesuffix(".sql")
        path = _query.query(name).path
        text = path.read_text()
        for mutant in mutants(text, name, path):
            yield Mutant(
                f"sql/{name}.sql", name, name, mutant, _diff(text, mutant, f"sql/{name}.sql")
            )


def _of_core(names: Sequence[str]) -> Iterator[Mutant]:
    for given in names or CORE:
        module = given.removesuffix(".py").rpartition("/")[2]
        file = f"butido_store/{module}.py"
        mutated = _with_trampolines(file)
        lines = mutated.code.split("\n")

        def source(function: str, lines: list[str] = lines, mutated: Any = mutated) -> str:
            span = mutated.line_span_by_function_name[function]
            # The copies differ in their names.
            text = "\n".join(lines[span.start - 1 : span.end])
            return text.replace(function, function.rpartition("__mutmut_")[0]) + "\n"

        for name in mutated.mutant_names:
            function = name.rpartition("__mutmut_")[0]
            diff = _diff(source(f"{function}__mutmut_orig"), source(name), file)
            whole = f"butido_store.{module}.{name}"
            yield Mutant(file, whole, f"butido_store.{module}.{function}", "", diff)


@cache
def _with_trampolines(file: str) -> Any:
    from mutmut.mutation.file_mutation import mutate_file_contents

    return mutate_file_contents(file, (ROOT / file).read_text())


def _put_trampolines(room: Path) -> None:
    """Have each function of the core look up which of its mutants is to run."""
    for module in CORE:
        file = f"butido_store/{module}.py"
        (room / file).write_text(_with_trampolines(file).code)


def _diff(before: str, after: str, file: str) -> str:
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    return "".join(difflib.unified_diff(old, new, file, file, n=2))


# Tests -------------------------------------------------------------------------------------------


def _notes(given: argparse.Namespace, rooms: Sequence[Path]) -> dict[str, Any]:
    """Return what each test uses, and how long it takes."""
    cache = CACHE / f"{given.kind}.json"
    known: dict[str, Any] = json.loads(cache.read_text()) if cache.exists() else {}
    files = given.tests or [f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py")]
    # What is noted, and how, is for those who note it to say.
    ours = b"".join((ROOT / "mutate" / name).read_bytes() for name in ("plugin.py", "run.py"))
    hashes = {file: hashlib.sha256((ROOT / file).read_bytes() + ours).hexdigest() for file in files}
    stale = [
        file
        for file in sorted(files)
        if given.fresh or known.get(file, {}).get("sha256") != hashes[file]
    ]
    if stale:
        print(f"noting what {len(stale)} test files use", file=sys.stderr)
    parts = [stale[number :: len(rooms)] for number in range(len(rooms))]
    with ThreadPoolExecutor(len(rooms)) as pool:
        for rows in pool.map(lambda room, part: [*_work(given, room, part, None)], rooms, parts):
            for row in rows:
                file = row["test"].partition("::")[0]
                if known.get(file, {}).get("sha256") != hashes[file]:
                    known[file] = {"sha256": hashes[file], "tests": {}}
                known[file]["tests"][row["test"]] = row
    CACHE.mkdir(exist_ok=True)
    cache.write_text(json.dumps(known))
    return {
        test: row for file in files for test, row in known.get(file, {}).get("tests", {}).items()
    }


def _work(
    given: argparse.Namespace,
    room: Path,
    files: Sequence[str],
    found: Sequence[dict[str, Any]] | None,
) -> Iterator[Any]:
    """Run pytest in a copy, and yield the rows that it writes, as they come."""
    if not files:
        return
    task, results = room / "task.json", room / "results.jsonl"
    results.write_text("")
    task.write_text(
        json.dumps(
            {"kind": given.kind, "results": str(results), "limit": given.limit, "mutants": found}
        )
    )
    kept = {name: value for name, value in os.environ.items() if name != "MUTANT_UNDER_TEST"}
    path = os.pathsep.join(filter(None, [str(room), os.environ.get("PYTHONPATH")]))
    with open(room / "log", "ab") as log, open(results) as rows:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-q", "--tb=line", f"--timeout={given.limit}"),
                *("-p", "mutate.plugin", "-p", "no:cacheprovider", "-p", "no:xdist", *files),
            ],
            cwd=room,
            env=kept | {"BUTIDO_MUTATE": str(task), "PYTHONPATH": path},
            stdout=log,
            stderr=log,
        )
        while True:
            ended = process.poll() is not None
            # A row is written in one piece.
            yield from (json.loads(line) for line in rows)
            if ended:
                break
            time.sleep(0.2)
    if not results.stat().st_size:
        # pytest itself has failed.
        print((room / "log").read_text()[-2000:], file=sys.stderr)


def _outcomes(
    given: argparse.Namespace, room: Path, files: Sequence[str], found: list[dict[str, Any]]
) -> Iterator[tuple[int, str]]:
    """Yield each mutant's number and outcome; a session that broke is begun anew."""
    tried: Counter[int] = Counter()
    while found:
        for row in _work(given, room, files, found):
            yield row["number"], row["outcome"]
            found = found[1:]
        if found:
            first = found[0]["number"]
            tried[first] += 1
            if tried[first] == _ATTEMPTS:
                # With it, the tests fail after it as well, or pytest itself ends.
                yield first, "killed"
                found = found[1:]


def _report(given: argparse.Namespace, rooms: Sequence[Path], found: Sequence[Mutant]) -> int:
    notes = _notes(given, rooms)
    # First what is quick, and of each test a few of its cases.
    cases = Counter[str]()

    def turn(row: dict[str, Any]) -> float:
        function = row["test"].partition("[")[0]
        cases[function] += 1
        return max(float(row["seconds"]), 0.001) * cases[function]

    quick = sorted((row for row in notes.values() if row["passed"]), key=lambda r: r["seconds"])
    order = sorted(quick, key=turn)
    tasks: list[dict[str, Any]] = [
        {
            "number": number,
            "name": mutant.name,
            "uses": mutant.uses,
            "text": mutant.text,
            "tests": [row["test"] for row in order if mutant.uses in row["uses"]],
        }
        for number, mutant in enumerate(found)
    ]
    files = sorted({test.partition("::")[0] for task in tasks for test in task["tests"]})
    begun = time.monotonic()
    shares = [tasks[number :: len(rooms)] for number in range(len(rooms))]
    outcomes: dict[int, str] = {}

    def share(room: Path, mine: list[dict[str, Any]]) -> None:
        for number, outcome in _outcomes(given, room, files, mine):
            outcomes[number] = outcome
            if outcome != "killed":
                print(f"{outcome}\n{found[number].diff}", flush=True)

    if files:
        with ThreadPoolExecutor(len(rooms)) as pool:
            list(pool.map(share, rooms, shares))
    for file in dict.fromkeys(mutant.file for mutant in found):
        of_file = [n for n, mutant in enumerate(found) if mutant.file == file]
        counts = Counter(outcomes.get(n, "untested") for n in of_file)
        share_killed = counts["killed"] / len(of_file)
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        print(f"{file}: {len(of_file)} mutants, {share_killed:.0%} killed: {told}")
    print(f"{len(found)} mutants in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
