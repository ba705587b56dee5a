"""What would be wrong without a guard is found, and nothing is wrong with all of them."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from chaos import journal
from chaos.checking import check, find
from chaos.client import Doer, opened
from chaos.guards import MUTANTS
from chaos.journal import Journal
from chaos.scenes import Loss, Row, Template, fail_over
from chaos.writing import Act, Thinker

pytestmark = pytest.mark.any_server

Play = Callable[[Thinker], Iterator[Act]]


def _refused(think: Thinker, **way: str) -> Iterator[Act]:
    yield {**think.several(think.create(), think.unknown(), may=["NotFound"]), **way}


def _refused_in_the_callers(think: Thinker) -> Iterator[Act]:
    return _refused(think, **{"in": "callers"})


def _beside_a_stream(think: Thinker) -> Iterator[Act]:
    yield (submit := think.create())
    yield {**think.record(submit), "in": "stream"}


def _ended_twice(think: Thinker) -> Iterator[Act]:
    yield (submit := think.create())
    yield (begun := think.start(submit))
    yield think.append(begun, 0)
    yield (end := think.finish(begun))
    yield end


def _contradicted(think: Thinker) -> Iterator[Act]:
    yield (submit := think.create())
    yield (whole := think.record(submit))
    other = {"id": "another", "outputs": {"more": ("1", str(submit["id"]))}, "may": ["Conflict"]}
    yield {**whole, **other, "contradicts": True}


# What brings it to light, and as what.
PLAYS: dict[str, tuple[Play, str]] = {
    "no savepoint in the caller's transaction": (_refused_in_the_callers, "refused, yet there"),
    "several statements in no transaction": (_refused, "refused, yet there"),
    "a lock is held over a stream's yield": (_beside_a_stream, "stalled"),
    "a repeated end is refused": (_ended_twice, "refused"),
    "chunks stay when a job ends": (_ended_twice, "orphan chunk"),
    "outputs are added to whatever job is there": (_contradicted, "half-written"),
}
BY_FAILOVER = ("no WAL is written on retry", "a standby's warning is not heard")


def test_all_guards_are_tried() -> None:
    assert {*PLAYS, *BY_FAILOVER} == {*MUTANTS}


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("mutant", PLAYS)
def test_a_guard_that_is_missing_is_noticed(
    mutant: str, face: str, dsn: str, schema: str, tmp_path: Path
) -> None:
    play, kind = PLAYS[mutant]
    for name, guard in (("whole", nullcontext()), ("without", MUTANTS[mutant]())):
        path = tmp_path / name
        with guard, opened(face, dsn, schema) as (store, loop):
            notes = Journal(path)
            doer = Doer(store, loop, dsn, schema, notes, patience=0.5)
            for act in play(Thinker(name)):
                doer.do(act)
            notes.close()
    found = find(dsn, schema)
    # What the other one wrote comes from nowhere.
    assert {*check(journal.read([tmp_path / "whole"]), found).kinds} <= {"from nowhere"}
    kinds = check(journal.read([tmp_path / "whole", tmp_path / "without"]), found).kinds
    assert kind in kinds
    assert "from nowhere" not in kinds


def test_what_is_lost_in_a_failover_for_lack_of_a_guard_is_noticed(short_directory: Path) -> None:
    template = Template(short_directory / "template")
    # Several: a wait may be that of a part of a write, or of one that is done again.
    loss = Loss([*["pg_terminate_backend"] * 2, *["pg_cancel_backend"] * 6])
    mutants = None, None, *BY_FAILOVER
    place = short_directory / "pair"
    place.mkdir(mode=0o755)
    with fail_over(place, template, loss, seconds=0.2, mutants=mutants) as (clients, dsn):
        missing = []
        for client in clients:
            row = Row("")
            row.judge([client], dsn)
            assert row.acknowledged
            missing.append(row.missing > 0)
    assert missing == [mutant is not None for mutant in mutants]
