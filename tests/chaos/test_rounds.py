"""A short round of each scene; long ones by `./dev chaos --full`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.scenes import SCENES, Impossible, Row, Template

pytestmark = pytest.mark.any_server

FAULTS = 4


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    """The data of a server that is set up."""
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        yield Template(Path(name, "template"))


@pytest.mark.parametrize("name", SCENES)
def test_nothing_acknowledged_is_missing_after_faults(
    name: str, template: Template, short_directory: Path
) -> None:
    row, notes = Row(name), list[str]()
    try:
        with SCENES[name](short_directory, template) as scene:
            scene.play("quick", FAULTS, row, notes.append)
    except Impossible as reason:
        pytest.skip(str(reason))
    assert row.wrong == [], notes
    assert row.acknowledged
