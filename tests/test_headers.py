"""A header that is wrong is found, on a generated store that the library works on meanwhile."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from headers import Checked, check
from migrating import Directory

from butido_store.admin.migrate import shipped
from butido_store.embedded import Server

pytestmark = [pytest.mark.own_server, pytest.mark.any_server]

LAST = shipped()[-1].id
# Nothing else writes WAL while a migration does.
QUIET = {"autovacuum": "off", "full_page_writes": "off", "fsync": "off"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """DSN of a server where nobody else works, as a role that may create databases."""
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        with Server(Path(name), settings=QUIET) as server:
            yield server.dsn


def test_the_headers_of_this_release(server: str) -> None:
    files = shipped()
    found = list(check(server, jobs=500))
    if files[1:]:
        found[1:] = check(server, after=files[0].id, jobs=500)
    assert [(one.id, one.wrong) for one in found] == [(file.id, []) for file in files]


def notes(locks: str, duration: str = "instant", rollback: str = "lossless") -> str:
    """Return a header's fields."""
    return (
        f"-- Phase:     pre\n-- Locks:     {locks}\n-- Duration:  {duration}\n"
        f"-- Rollback:  {rollback}\n"
    )


SCANS = "scans job; 9 s and 9 GB of WAL on 1 k jobs"
ADD = ("ALTER TABLE job ADD COLUMN {0} text;", "ALTER TABLE job DROP COLUMN {0};")
CHECK = (
    "ALTER TABLE job ADD CONSTRAINT {0} CHECK (started_at > '1900-01-01');",
    "ALTER TABLE job DROP CONSTRAINT {0};",
)
PLANTED = {
    "9001.true-column": (*ADD, notes("ACCESS EXCLUSIVE on job", rollback="loses job.a")),
    "9002.true-check": (*CHECK, notes("ACCESS EXCLUSIVE on job", SCANS)),
    "9003.wrong-lock": (*ADD, notes("SHARE UPDATE EXCLUSIVE on job", rollback="loses job.c")),
    "9004.wrong-duration": (*CHECK, notes("ACCESS EXCLUSIVE on job")),
    "9005.wrong-rewrite": (
        "ALTER TABLE job_input_artifacts SET UNLOGGED;",
        "ALTER TABLE job_input_artifacts SET LOGGED;",
        notes("ACCESS EXCLUSIVE on job_input_artifacts"),
    ),
    "9006.wrong-rollback": (
        "UPDATE release_store SET name = name || '2';",
        "SELECT 1;",
        notes("ROW EXCLUSIVE on release_store", SCANS.replace("job;", "release_store;")),
    ),
    "9007.wrong-wal": (
        "UPDATE job SET finished_at = finished_at;",
        "SELECT 1;",
        notes("ROW EXCLUSIVE on job", SCANS.replace("9 GB", "1 kB")),
    ),
    "9008.wrong-phase": (
        "ALTER TABLE job RENAME COLUMN reason TO {0};",
        "ALTER TABLE job RENAME COLUMN {0} TO reason;",
        notes("ACCESS EXCLUSIVE on job"),
    ),
}


def test_a_wrong_header_is_found(server: str, tmp_path: Path) -> None:
    directory = Directory(tmp_path / "planted")
    for file in shipped():
        for path in (file.path, file.rollback_path):
            shutil.copy(path, directory.path)
    for letter, (id_, (sql, rollback, about)) in zip("abcdefgh", PLANTED.items(), strict=True):
        directory.add(id_, sql.format(letter), rollback.format(letter), notes=about)
    found: dict[str, Checked] = {
        one.id: one for one in check(server, directory=directory.path, after=LAST, jobs=2000)
    }
    wrong = {id_: one.wrong for id_, one in found.items()}
    assert wrong["9001.true-column"] == wrong["9002.true-check"] == []
    # Whoever came while the column was added had to wait, and nobody else.
    assert {one.partition(" on ")[2] for one in found["9001.true-column"].waited} == {"job"}
    lock = "ACCESS EXCLUSIVE on job"
    says = "SHARE UPDATE EXCLUSIVE on job"
    assert wrong["9003.wrong-lock"][0] == f"it locks {lock}, and says {says}"
    # For which mode, is a matter of who comes by.
    assert any(
        one.startswith("the library waits for ") and one.endswith(f" on job, and it says {says}")
        for one in wrong["9003.wrong-lock"]
    )
    assert wrong["9004.wrong-duration"] == ["it scans job, and says nothing"]
    assert wrong["9005.wrong-rewrite"][0] == "it rewrites job_input_artifacts, and says nothing"
    assert wrong["9006.wrong-rollback"] == [
        "its rollback leaves release_store changed, and says lossless"
    ]
    assert [lie for lie in wrong["9007.wrong-wal"] if " of WAL on 2000 jobs" in lie]
    assert [lie for lie in wrong["9008.wrong-phase"] if "the library failed meanwhile" in lie]
