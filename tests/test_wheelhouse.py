"""The example builder, on packages that are made here, without a network."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event

import psycopg
import pytest
from commandline import Shell
from wheelhouse.builder import Summary, build
from wheelhouse.machine import Interrupted, WheelhouseError
from wheelhouse.plan import resolve

from butido_store import Store, job, report, submit

pytestmark = pytest.mark.any_server
REPOSITORY = Path(__file__).parents[1]
WHEELHOUSE = REPOSITORY / "examples" / "wheelhouse"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
TABLES = (
    *("envvar", "git_hash", "package", "image", "submit", "endpoint", "job"),
    *("job_input_artifacts", "artifact", "jobenvs", "submitenvs"),
)
Connect = Callable[[], Store]

# A build backend that needs nothing but Python.
BACKEND = """
import os, zipfile

INFO = {f"{NAME}-{VERSION}.dist-info/METADATA": METADATA,
        f"{NAME}-{VERSION}.dist-info/WHEEL": WHEEL}

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    for path, text in INFO.items():
        os.makedirs(os.path.dirname(os.path.join(directory, path)), exist_ok=True)
        with open(os.path.join(directory, path), "w") as file:
            file.write(text)
    return f"{NAME}-{VERSION}.dist-info"

def build_wheel(directory, config_settings=None, metadata_directory=None):
    exec(CODE)
    name = f"{NAME}-{VERSION}-py3-none-any.whl"
    record = f"{NAME}-{VERSION}.dist-info/RECORD"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in {**INFO, f"{NAME}.py": CONTENT, record: ""}.items():
            wheel.writestr(path, text)
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


class Index:
    """A directory of source distributions, where pip looks for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _backend(self, name: str, *fields: str, content: str = "", code: str = "") -> str:
        metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *fields])
        values = {
            "NAME": name,
            "VERSION": "1.0",
            "METADATA": metadata + "\n",
            "WHEEL": WHEEL,
            "CONTENT": content,
            "CODE": code,
        }
        return "".join(f"{key} = {value!r}\n" for key, value in values.items()) + BACKEND

    def add_wheel(self, name: str) -> None:
        """Add version 1.0 of a package, but without its source."""
        backend: dict[str, Callable[[str], str]] = {}
        exec(self._backend(name), backend)
        backend["build_wheel"](str(self.directory))

    def add(self, name: str, *fields: str, content: str = "", code: str = "") -> Path:
        """Add version 1.0 of a package: metadata fields, a module's content, what a build runs."""
        backend = self._backend(name, *fields, content=content, code=code)
        path = self.directory / f"{name}-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for file, text in {"pyproject.toml": PYPROJECT, "backend.py": backend}.items():
                info = tarfile.TarInfo(f"{name}-1.0/{file}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return Index(directory)


@pytest.fixture
def open_store(dsn: str, schema: str) -> Connect:
    return partial(Store.connect, dsn, schema=schema)


def outcomes(summary: Summary) -> dict[str, str]:
    return {result.package.name: result.outcome for result in summary.results}


def command(directory: Path, dsn: str, schema: str, requirement: str = "top") -> list[str]:
    arguments = ["--directory", str(directory), "--dsn", dsn, "--schema", schema]
    return [sys.executable, str(WHEELHOUSE), requirement, *arguments]


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def test_only_what_is_not_known_is_built(
    index: Index, tmp_path: Path, open_store: Connect, shell: Shell
) -> None:
    index.add("base")
    index.add("other")
    index.add("top", "Requires-Dist: base", "Requires-Dist: other")

    first = build("top", tmp_path, open_store)
    assert outcomes(first) == {"top": "built", "base": "built", "other": "built"}

    second = build("top", tmp_path, open_store)
    assert outcomes(second) == {"top": "reused", "base": "reused", "other": "reused"}
    assert [result.job for result in second.results] == [result.job for result in first.results]
    with open_store() as store:
        [page] = store.run(report.submit(second.submit))
        jobs = store.run(report.jobs(of_submit=second.submit))
        savings = store.run(report.savings())
    assert (page.success, page.reused, page.seconds_saved > 0) == (0, 3, True)
    assert {one.uuid for one in jobs if one.reused} == {result.job for result in first.results}
    assert {(one.package, one.hits, one.misses, one.hit_rate) for one in savings} == {
        (name, 1, 1, 0.5) for name in ("top", "base", "other")
    }
    assert sum(one.seconds_saved for one in savings) == pytest.approx(page.seconds_saved)
    # What it delivered is released, though it built none of it.
    released = shell("release", "stable", "--submit", str(second.submit))
    assert (released.exit_code, released.stdout.count("released ")) == (0, 3)

    # The same version at the same path with another content is another input of its dependents.
    changed = index.add("base", content="CHANGED = True\n")
    shutil.copy(changed, tmp_path / "sdists")
    third = build("top", tmp_path, open_store)
    assert outcomes(third) == {"top": "built", "base": "built", "other": "reused"}

    # The store knows what this wheel was, but that does not bring it back.
    (tmp_path / "wheels" / "other-1.0-py3-none-any.whl").unlink()
    fourth = build("other", tmp_path, open_store)
    assert outcomes(fourth) == {"other": "built"}


def test_two_at_once_build_each_package_once(
    index: Index, tmp_path: Path, open_store: Connect, dsn: str, schema: str
) -> None:
    gate = tmp_path / "gate"
    # Open once both have made their requests.
    index.add(
        "base", code=f"import time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    )
    index.add("top", "Requires-Dist: base")
    with open_store() as store, ExitStack() as stack:
        both = [
            stack.enter_context(subprocess.Popen(command(tmp_path, dsn, schema), env=with_path()))
            for _ in range(2)
        ]
        try:
            while len(store.run(report.submits())) < len(both):
                assert {one.poll() for one in both} == {None}
                time.sleep(0.01)
        finally:
            gate.touch()
        assert [one.wait() for one in both] == [0, 0]
        assert sorted((one.package, one.state) for one in store.run(report.jobs())) == [
            ("base", "success"),
            ("top", "success"),
        ]
        pages = [store.run(report.submit(one.uuid))[0] for one in store.run(report.submits())]
        assert sum(page.reused for page in pages) == 2


def test_a_run_is_recorded(
    index: Index,
    tmp_path: Path,
    open_store: Connect,
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    index.add("base")
    index.add("top", "Requires-Dist: base")
    summary = build("top", tmp_path, open_store)

    for table in TABLES:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        assert row[0], table
    recorded = {name for (name,) in connection.execute("SELECT name FROM envvar")}
    assert {"SOURCE_DATE_EPOCH", "PYTHONHASHSEED"} <= recorded
    assert not recorded & {"PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONFIG_FILE", "PATH", "HOME"}
    with open_store() as store:
        request = store.run(submit.get(summary.submit))
        jobs = {found.package: found for found in store.run(report.jobs(of_submit=summary.submit))}
        top = jobs["top"].uuid
        log = store.run(job.log(top))
        inputs = store.run(job.inputs(top))
        [wheel] = store.run(job.outputs(top))
    pins = b"base==1.0\ntop==1.0\n"
    assert request.repo_hash == hashlib.sha1(b"blob %d\0" % len(pins) + pins).hexdigest()
    assert request.tree == {
        "root": 0,
        "nodes": [
            {"name": "top", "version": "1.0", "dependencies": [1]},
            {"name": "base", "version": "1.0", "dependencies": []},
        ],
    }
    assert {(found.state, found.exit_code) for found in jobs.values()} == {("success", 0)}
    for found in jobs.values():
        assert found.measurements
        # A Python that runs pip takes some of each.
        assert 0.05 < found.measurements["cpu_seconds"] < 600
        assert 5e6 < found.measurements["peak_memory_bytes"] < 1e12
    assert [file.path for file in inputs] == [
        "sdists/top-1.0.tar.gz",
        "wheels/base-1.0-py3-none-any.whl",
    ]
    assert wheel.sha256 == hashlib.sha256((tmp_path / wheel.path).read_bytes()).digest()
    assert "Successfully installed base-1.0 top-1.0" in log


@pytest.mark.parametrize("inherited", [False, True], ids=["", "sigchld-ignored"])
def test_what_needs_a_broken_package_is_not_built(
    index: Index,
    tmp_path: Path,
    dsn: str,
    schema: str,
    open_store: Connect,
    sigchld_ignored: list[str],
    inherited: bool,
) -> None:
    index.add("base", code="raise SystemExit('the compiler is on strike')")
    index.add("top", "Requires-Dist: base")
    before = sigchld_ignored if inherited else []
    process = subprocess.run(
        [*before, *command(tmp_path, dsn, schema)],
        env=with_path(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "not built: needs base" in process.stdout
    assert "the compiler is on strike" in process.stdout
    with open_store() as store:
        [failed] = store.run(report.jobs())
        assert (failed.package, failed.state) == ("base", "error")
        assert (failed.reason, failed.exit_code) == ("the script failed", 1)
        assert "the compiler is on strike" in store.run(job.log(failed.uuid))
        assert store.run(job.outputs(failed.uuid)) == []


def test_a_package_without_sources_is_an_error(
    index: Index, tmp_path: Path, open_store: Connect
) -> None:
    index.add_wheel("top")
    [failed] = build("top", tmp_path, open_store).results
    assert failed.outcome == "failed"
    assert failed.job is not None
    with open_store() as store:
        assert store.run(job.get(failed.job)).state == "error"
        assert "No source distribution of top 1.0" in store.run(job.log(failed.job))
        assert "pip download" in store.run(job.script(failed.job))


def test_an_interrupt_leaves_nothing_running(
    index: Index, tmp_path: Path, dsn: str, schema: str, open_store: Connect
) -> None:
    index.add("base", code="import signal; print('waiting', flush=True); signal.pause()")
    index.add("top", "Requires-Dist: base")
    deadline = time.monotonic() + 120
    with (
        open_store() as store,
        subprocess.Popen(
            command(tmp_path, dsn, schema),
            env=with_path(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            while not any(
                "waiting" in store.run(job.log(found.uuid))
                for found in store.run(report.jobs(state="running"))
            ):
                assert process.poll() is None
                assert time.monotonic() < deadline, "the build did not start"
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        [lost] = store.run(report.jobs())
        assert (lost.package, lost.state, lost.reason) == ("base", "lost", "interrupted")
        assert "waiting" in store.run(job.log(lost.uuid))
        assert store.run(report.artifacts(path="wheels/base-1.0-py3-none-any.whl")) == []
    assert process.returncode == 130
    assert "interrupted" in output
    assert errors == ""
    assert [*(tmp_path / "builds").iterdir()] == []


def test_an_early_interrupt_records_nothing(
    index: Index, tmp_path: Path, open_store: Connect
) -> None:
    index.add("top")
    stop = Event()
    stop.set()
    with pytest.raises(Interrupted):
        build("top", tmp_path, open_store, stop=stop)
    with open_store() as store:
        assert store.run(report.submits()) == []


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("unheard-of", "pip cannot resolve unheard-of: ERROR: No matching distribution"),
        ("not a requirement", "'not a requirement' is not a requirement: "),
        ("egg", "these need each other: (egg, hen|hen, egg)"),
    ],
)
def test_what_cannot_be_resolved_is_said(
    requirement: str, message: str, index: Index, tmp_path: Path, open_store: Connect
) -> None:
    index.add("egg", "Requires-Dist: hen")
    index.add("hen", "Requires-Dist: egg")
    with pytest.raises(WheelhouseError, match=message):
        build(requirement, tmp_path, open_store)


def test_an_unusable_store_is_said_in_a_line(tmp_path: Path, schema: str) -> None:
    process = subprocess.run(
        command(tmp_path, f"host={tmp_path}", schema),
        env=with_path(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("wheelhouse: ")
    assert process.stderr.count("\n") == 1


def test_extras_are_followed(index: Index, tmp_path: Path) -> None:
    index.add("base")
    index.add("other")
    index.add(
        "top",
        "Provides-Extra: all",
        "Provides-Extra: some",
        "Requires-Dist: top[some]; extra == 'all'",
        "Requires-Dist: base; extra == 'some'",
        "Requires-Dist: other; python_version < '3'",
    )
    (tmp_path / "tmp").mkdir()
    packages = resolve("top[all]", tmp_path, Event())
    assert {name: package.needs for name, package in packages.items()} == {
        "top": ("base",),
        "base": (),
    }
