"""The example builder in asyncio: run twice, failing, cancelled and killed."""

import errno
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from butido_store import Store, job, report

pytestmark = pytest.mark.any_server
TREEHOUSE = Path(__file__).parents[1] / "examples" / "treehouse"
# Whoever starts the tests may have it ignored.
INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
# One that fails where `broken` names what it makes. While there is a gate, it says of each twig
# that it is there, and waits.
COMPILER = """#!/bin/sh
here=${0%/*}
echo "making $2"
if [ -e "$here/broken" ] && [ "$(cat "$here/broken")" = "$2" ]; then exit 3; fi
case $2 in
twig*)
    if [ -p "$here/gate" ]; then
        exec 0<> "$here/gate"
        echo "$2" > "$here/came"
        read -r _
    fi ;;
esac
exec sort "$@"
"""
# 16 leaves, 8 twigs, 4 branches, 2 boughs and a trunk.
ALL, LEAVES = 31, 16
SLOTS = 3


class Farm:
    """Where the builder runs, with a compiler that can be held."""

    def __init__(self, directory: Path, dsn: str, schema: str) -> None:
        self.directory, self.dsn, self.schema = directory, dsn, schema
        self.kept, self.gate = directory / "kept", directory / "gate"
        self.compiler = directory / "compiler"
        self.compiler.write_text(COMPILER)
        self.compiler.chmod(0o755)
        os.mkfifo(directory / "came")
        self.came = os.open(directory / "came", os.O_RDWR)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run the builder, which ends with the block at the latest."""
        here = ("--schema", self.schema, "--directory", str(self.kept), "--jobs", str(SLOTS))
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, str(TREEHOUSE), *here, *arguments],
            env={**os.environ, "BUTIDO_STORE_DSN": self.dsn},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str, code: int = 0) -> tuple[Counter[str], str]:
        """Run the builder to its end; return how many targets it has by outcome, and the rest."""
        with self.started(*arguments) as process:
            output, errors = process.communicate()
        assert (process.returncode, errors) == (code, "")
        outcomes, brace, rest = output.partition("{")
        return Counter(line.split()[0] for line in outcomes.splitlines()), brace + rest

    @contextmanager
    def held(self) -> Iterator[subprocess.Popen[str]]:
        """Run the builder until it makes as many twigs as it can; they wait at the gate."""
        os.mkfifo(self.gate)
        with self.started("--compiler", str(self.compiler)) as process:
            came = b""
            while came.count(b"\n") < SLOTS:
                if select.select([self.came], [], [], 0.1)[0]:
                    came += os.read(self.came, select.PIPE_BUF)
                else:
                    # A builder that ends early says why.
                    assert process.poll() is None, process.communicate()
            yield process

    def waiting(self) -> bool:
        """Tell whether a compiler stands at the gate."""
        try:
            os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
        return True

    def open_gate(self) -> None:
        """Let go on who waits at the gate, and who would."""
        gate = os.open(self.gate, os.O_RDWR)
        self.gate.unlink()
        os.write(gate, b"\n" * ALL)
        os.close(gate)


@pytest.fixture
def farm(tmp_path: Path, dsn: str, schema: str) -> Iterator[Farm]:
    farm = Farm(tmp_path, dsn, schema)
    yield farm
    if farm.gate.exists():
        farm.open_gate()
    os.close(farm.came)


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    with Store.connect(dsn, schema=schema) as store:
        yield store


def states(store: Store) -> Counter[str]:
    return Counter(one.state for one in store.run(report.jobs(limit=None)))


def test_the_second_run_builds_nothing(farm: Farm, store: Store) -> None:
    outcomes, provenance = farm.run()
    assert outcomes == {"built": ALL}
    assert states(store) == {"success": ALL}
    assert farm.run() == ({"known": ALL}, provenance)
    assert states(store) == {"success": ALL}
    again, first = store.run(report.submits())
    for uuid, built, reused in ((first.uuid, ALL, 0), (again.uuid, 0, ALL)):
        (page,) = store.run(report.submit(uuid))
        assert (page.success, page.reused, len(page.jobs)) == (built, reused, ALL)
    assert sum(one.hits for one in store.run(report.savings())) == ALL

    (released,) = store.run(report.releases())
    (slsa,) = store.run(report.slsa(released.artifact_uuid))
    assert json.loads(provenance) == slsa.statement
    trunk = store.run(report.jobs(package="trunk1"))[0]
    read = store.run(job.inputs(trunk.uuid))
    assert [one.path for one in read] == ["bough2.o", "bough3.o", "trunk1.c"]
    assert "-o trunk1.o trunk1.c bough2.o bough3.o" in store.run(job.log(trunk.uuid))
    assert len(store.run(report.provenance(released.artifact_uuid))) > ALL
    for made in store.run(report.artifacts(limit=None)):
        if made.job_uuid is not None:
            assert made.sha256
            content = (farm.kept / made.sha256.hex()).read_bytes()
            assert hashlib.sha256(content).digest() == made.sha256
    # What the store knows is of no use without the file.
    assert released.sha256
    (farm.kept / released.sha256.hex()).unlink()
    assert farm.run()[0] == {"known": ALL - 1, "built": 1}


def test_what_needs_a_failed_target_is_not_built(farm: Farm, store: Store) -> None:
    (farm.directory / "broken").write_text("twig9.o")
    # Below it are a branch, a bough and the trunk.
    outcomes, rest = farm.run("--compiler", str(farm.compiler), code=1)
    assert (outcomes, rest) == ({"built": ALL - 4, "failed": 1}, "")
    (failed,) = store.run(report.jobs(state="error"))
    assert (failed.package, failed.reason, failed.exit_code) == ("twig9", "the script failed", 3)
    assert "making twig9.o" in store.run(job.log(failed.uuid))
    assert store.run(report.releases()) == []
    (farm.directory / "broken").unlink()
    outcomes, _ = farm.run("--compiler", str(farm.compiler))
    assert outcomes == {"known": ALL - 4, "built": 4}


def test_cancelled_and_killed_it_goes_on_where_it_was(farm: Farm, store: Store) -> None:
    with farm.held() as process:
        assert farm.waiting()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
        assert (process.returncode, errors) == (130, "")
        assert output.endswith("interrupted: the jobs that were running are lost\n")
    assert not farm.waiting()
    assert states(store) == {"success": LEAVES, "lost": SLOTS}
    for lost in store.run(report.jobs(state="lost")):
        assert f"making {lost.package}.o" in store.run(job.log(lost.uuid))
        assert store.run(job.outputs(lost.uuid)) == []

    farm.gate.unlink()
    with farm.held() as process:
        process.kill()
        process.communicate()
    farm.open_gate()
    assert states(store) == {"success": LEAVES, "lost": SLOTS, "running": SLOTS}

    outcomes, _ = farm.run("--compiler", str(farm.compiler), "--silent-for", "0.000001")
    assert outcomes == {"lost": SLOTS, "known": LEAVES, "built": ALL - LEAVES}
    assert states(store) == {"success": ALL, "lost": 2 * SLOTS}
    assert len(store.run(report.releases())) == 1


def test_no_job_at_a_time_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, str(TREEHOUSE), "--dsn", "host=/nowhere", "--jobs", "0"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert (done.returncode, "--jobs must be at least 1" in done.stderr) == (2, True)
