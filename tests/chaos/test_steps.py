"""Writes that are cut off in the midst: each is done once, or not at all, and told as it is."""

from pathlib import Path

from chaos.checking import check, find
from chaos.journal import read
from chaos.steps import walk

# Of so many cuts one is made; the full size makes all of them.
SHARE = 8


def test_writes_that_are_cut_off_at_each_message(dsn: str, schema: str, tmp_path: Path) -> None:
    for place, face in enumerate(("sync", "async")):
        done = walk(dsn, schema, tmp_path / f"{place}", faces=[face], share=SHARE, place=place)
        assert done.faults > 30
    verdict = check(read(sorted(tmp_path.iterdir())), find(dsn, schema))
    assert verdict.wrong == []
