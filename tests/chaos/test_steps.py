"""Writes that are cut off in the midst: each is done once, or not at all, and told as it is."""

from pathlib import Path

import pytest

from chaos import journal
from chaos.checking import check, find
from chaos.steps import walk

# Of so many cuts one is made; the full size makes all of them.
SHARE = 8


@pytest.mark.any_server
def test_writes_that_are_cut_off_at_each_message(dsn: str, schema: str, tmp_path: Path) -> None:
    for seed, face in enumerate(("sync", "async")):
        cuts = walk(dsn, schema, tmp_path / f"{seed}", faces=[face], share=SHARE, seed=seed)
        assert cuts > 30
    verdict = check(journal.read(sorted(tmp_path.iterdir())), find(dsn, schema))
    assert verdict.wrong == []
