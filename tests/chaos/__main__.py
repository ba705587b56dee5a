"""The command: `./dev chaos`."""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from butido_store.embedded import Server
from chaos import journal
from chaos.checking import check, find
from chaos.scenes import CLUSTERS, LOSSES, SCENES, SCHEMAS, Impossible, Row, Template, fail_over
from chaos.soak import soak
from chaos.steps import walk

STEPS, CUT = "each message of each write", "link cut at a message"
# Faults in a round, by size.
QUICK, FULL = 10, 40


def main(arguments: Sequence[str]) -> int:
    """Play what is asked for, print the table, and return 1 where something is wrong."""
    given = _parser().parse_args(arguments)
    place = Path(tempfile.mkdtemp(prefix="butido-chaos-"))
    place.chmod(0o755)
    rows: list[Row] = []
    try:
        template = Template(place / "template")
        if given.soak is not None:
            print(soak(place, template, minutes=given.soak, seed=given.seed))
            return 0
        print(f"seed {given.seed}", flush=True)
        scenes = [STEPS, *SCENES, *LOSSES, *CLUSTERS]
        deadline = time.monotonic() + 60 * given.minutes if given.minutes else None
        chosen = [name for name in scenes if not given.scene or name in given.scene]
        count = FULL if given.full else QUICK
        number = 0
        while True:
            for name in chosen:
                for _ in range(given.rounds):
                    _play(given, place, template, name, count, number, _row(rows, name))
                    number += 1
            if deadline is None or time.monotonic() > deadline:
                break
    finally:
        if any(row.wrong for row in rows):
            print(f"what clients noted is in {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    print("\n".join(_table(rows)))
    return any(row.wrong for row in rows)


def _row(rows: list[Row], name: str) -> Row:
    """Return the row of a scene, a new one where there is none yet."""
    for row in rows:
        if row.scene == name:
            return row
    rows.append(Row(name))
    return rows[-1]


def _play(
    given: argparse.Namespace,
    place: Path,
    template: Template,
    name: str,
    count: int,
    number: int,
    row: Row,
) -> None:
    """Play a round of a scene."""
    # The same seed and place in the run give the same faults.
    seed = f"{given.seed}.{number}"
    here = place / str(number)
    here.mkdir(mode=0o755)
    before = len(row.wrong)

    def note(fault: str) -> None:
        with (place / "faults").open("a") as file:
            file.write(f"{time.monotonic():.3f}\t{name}\t{fault}\n")

    started = time.monotonic()
    try:
        if name == STEPS:
            _walk(here, template, row, full=given.full)
        elif name in LOSSES:
            loss, seconds = LOSSES[name], 2 if given.full else 0.5
            with fail_over(here, template, loss, seconds=seconds) as (clients, dsn):
                lost = Row(name)
                lost.judge(clients, dsn)
            if not loss.synchronous:
                # What follows of what is lost is no fault of its own.
                lost.wrong = [one for one in lost.wrong if one[0] in ("crashed", "stalled")]
            waits = {end: len(loss.ends) * len(clients) for end in loss.ends[:1]}
            for fault, times in {"kill -9 of the primary": 1, **waits}.items():
                row.faults[fault] = row.faults.get(fault, 0) + times
            row.acknowledged += lost.acknowledged
            row.missing += lost.missing
            row.longest = max(row.longest, lost.longest)
            row.wrong += lost.wrong
        else:
            with (SCENES | CLUSTERS)[name](here, template, full=given.full) as scene:
                scene.play(seed, count, row, note)
    except Impossible as reason:
        row.skipped = str(reason)
    print(f"{name}, round {number}: {time.monotonic() - started:.0f} s", flush=True)
    for kind, what in row.wrong[before:][:20]:
        print(f"  {kind}: {what}")
    if len(row.wrong) == before:
        shutil.rmtree(here, ignore_errors=True)


def _walk(place: Path, template: Template, row: Row, *, full: bool) -> None:
    """Cut off each write at each message, or at some."""
    template.copy(place / "server")
    share = 1 if full else 8
    with Server(place / "server", settings={"fsync": "off"}) as server:
        for face in ("sync", "async"):
            cuts = walk(server.dsn, SCHEMAS[0], place / face, faces=[face], share=share)
            row.faults[CUT] = row.faults.get(CUT, 0) + cuts
        row.add(check(journal.read(sorted(place.glob("*.*ync"))), find(server.dsn, SCHEMAS[0])))


def _table(rows: Sequence[Row]) -> list[str]:
    """Return the table, as Markdown has it."""
    columns: dict[str, Callable[[Row], object]] = {
        "where": lambda row: row.scene,
        "faults": lambda row: sum(row.faults.values()),
        "acknowledged": lambda row: row.acknowledged,
        "missing": lambda row: row.missing,
        "otherwise wrong": lambda row: len([one for one in row.wrong if one[0] != "missing"]),
        "longest stall": lambda row: f"{row.longest:.1f} s",
    }
    lines = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    for row in rows:
        cells = [f"{cell(row)}" for cell in columns.values()]
        if row.skipped:
            cells[1:] = [f"skipped: {row.skipped}", *[""] * (len(columns) - 2)]
        lines.append(f"| {' | '.join(cells)} |")
    kinds: dict[str, int] = {}
    for row in rows:
        for name, times in row.faults.items():
            kinds[name] = kinds.get(name, 0) + times
    total = sum(kinds.values())
    lines += ["", f"{total} faults: " + json.dumps(kinds)[1:-1].replace('"', "")]
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--full", action="store_true", help="long rounds, of four minutes at most")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="play it again")
    parser.add_argument("--rounds", type=int, default=1, help="of each scene")
    parser.add_argument("--minutes", type=float, help="begin anew until so many have passed")
    parser.add_argument("--scene", action="append", help="only this one; it can be given again")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="mixed load, without faults")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
