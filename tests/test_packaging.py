"""The package works as a wheel, from an sdist, and editable, away from its checkout."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.any_server
SHIPPED = ("schema/schema.sql", "schema/roles.sql", "schema/migrations/0001.initial.sql",
           "sql/job/insert.sql", "examples/wheelhouse/__main__.py",
           "examples/treehouse/__main__.py")  # fmt: skip

_USE = """
import json, sys
from pathlib import Path
import psycopg
import butido_store
from butido_store import Store, _query, report, submit
from butido_store._query import directory
from butido_store.admin.migrate import Migrator

loaded = [_query.query(name).name for name in _query.names()]
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    applied = Migrator(connection).apply()
with Store.connect(sys.argv[1]) as store:
    listed = store.run(report.submits())
print(json.dumps({
    "package": str(Path(butido_store.__file__).parent), "queries": len(loaded), "applied": applied,
    "listed": listed, "wheelhouse": (directory("examples") / "wheelhouse").is_dir(),
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that has to succeed, and return what it prints."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that is built from it."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    listed = run("git", "-c", "safe.directory=*", "ls-files", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=copy)
    return out


def test_wheel_and_sdist_have_what_they_need(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"butido_store/{name}" for name in (*SHIPPED, "py.typed", "store.py")} <= names
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive_:
        inside = {name.partition("/")[2] for name in archive_.getnames()}
    assert {*SHIPPED, "LICENSE", "README.md", "docs/demo.svg", "tests/conftest.py", "dev"} <= inside


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_it_works_when_installed(kind: str, built: Path, tmp_path: Path, database_dsn: str) -> None:
    copy = tmp_path / "copy"
    if kind == "editable":
        (sdist,) = built.glob("*.tar.gz")
        run(sys.executable, "-m", "tarfile", "--extract", sdist, copy, cwd=tmp_path)
        (source,) = copy.iterdir()
        what = ["--editable", str(source)]
    else:
        (file,) = built.glob("*.whl" if kind == "wheel" else "*.tar.gz")
        what = [str(file)]
    target = tmp_path / "site"
    # Beside the environment of the tests, whose other packages it needs.
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", *install, "--target", target, *what, cwd=tmp_path)
    paths = [str(target)]
    for link in target.glob("*.pth"):
        paths += [line for line in link.read_text().splitlines() if Path(line).is_dir()]
    found = json.loads(
        run(
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {paths!r}\n{_USE}",
            database_dsn,
            cwd=tmp_path,
        )
    )
    assert Path(found.pop("package")).is_relative_to(tmp_path)
    assert found == {
        "queries": len([*(ROOT / "sql").rglob("*.sql")]),
        "applied": ["0001.initial"],
        "listed": [],
        "wheelhouse": True,
    }
