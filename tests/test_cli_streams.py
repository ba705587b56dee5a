"""What ends the command line from outside: interrupts, closed pipes, full disks, and encodings."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filled import NEXT, ODD, PROGRAM, RUNNING
from forked import run

pytestmark = pytest.mark.any_server


def shown(program: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a program with its errors caught, and its output where it is not sent elsewhere."""
    return subprocess.run(program, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


# Each fails at its own time: when it is written, or at the end.
PRINTED = [
    pytest.param(arguments, unbuffered, id=f"{arguments[0]}{unbuffered}")
    for arguments, unbuffered in (
        (["jobs"], ""),
        (["jobs"], "1"),
        (["artifacts", "--limit=0", "--format=csv"], ""),
        (["submits", "--format=json"], "1"),
        (["provenance", str(PROGRAM)], ""),
        (["job", "-L", str(NEXT)], ""),
        (["log-of", str(RUNNING)], "1"),
        (["migrate", "status"], ""),
        (["--help"], ""),
        (["--help"], "1"),
    )
]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("arguments", "unbuffered"), PRINTED)
def test_a_full_disk_is_one_line(
    options: list[str], arguments: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Path("/dev/full").open("w") as full:
        done = run([*options, *arguments], os.environ, output=full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"Error: the output cannot be written: No space left on device\n"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("arguments", [["jobs"], ["log-of", str(RUNNING)], ["--help"]])
def test_a_closed_output_is_one_line(command: list[str], arguments: list[str]) -> None:
    done = shown(["sh", "-c", 'exec "$@" >&-', "sh", *command, *arguments])
    assert (done.returncode, done.stderr) == (1, b"Error: the standard output is closed\n")


@pytest.mark.usefixtures("filled")
def test_closed_input_and_errors_are_no_connections(command: list[str]) -> None:
    """A connection that got the number of the errors would be sent them."""
    for arguments, code in ((["jobs"], 0), (["job", "f"], 1)):
        program = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command, *arguments]
        done = shown(program, stdout=subprocess.PIPE)
        assert (done.returncode, b"Error" in done.stdout) == (code, False)
        assert (str(NEXT).encode() in done.stdout) is (code == 0)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("arguments", "unbuffered"), PRINTED)
def test_a_reader_that_stops_reading_is_no_failure(
    options: list[str], arguments: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reader, writer = os.pipe()
    os.close(reader)
    done = run([*options, *arguments], os.environ, output=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.usefixtures("filled")
def test_an_interrupt_is_130(command: list[str]) -> None:
    # Whoever runs the tests may have it ignored, which is inherited.
    restored = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", restored, *command, "log-of", "--follow", str(RUNNING)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == ODD.encode()[:4]
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().strip() == b""
    assert process.returncode == 130


def test_psql_ended_by_a_signal_is_what_a_shell_says(command: list[str]) -> None:
    kill = r"\! kill -KILL $PPID"
    done = shown([*command, "psql", "-X", "-c", kill], stdout=subprocess.PIPE)
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.usefixtures("filled")
def test_a_refusal_at_a_prompt_stays_a_failure(options: list[str]) -> None:
    arguments = [*options, "migrate", "rollback", "--lose-data", "zero"]
    done = run(arguments, os.environ, given=b"n\n")
    assert done.returncode == 1
    assert done.stderr.endswith(b"Aborted!\n")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_encoding_without_the_characters_replaces_them(
    options: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(*arguments: str) -> str:
        done = run([*options, *arguments], os.environ)
        assert (done.returncode, done.stderr) == (0, b"")
        return str(done.stdout.decode(os.environ["PYTHONIOENCODING"]))

    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    records = json.loads(printed("provenance", "--format=json", str(PROGRAM)))
    assert "🐘" in str(records)
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    assert json.loads(printed("provenance", "--format=json", str(PROGRAM))) == records
    tree = printed("provenance", str(PROGRAM)).splitlines()
    assert "\\U0001f418" in tree[0]
    assert [line[:4] for line in tree[1:]] == ["|-- ", "|   ", "`-- "]
    for arguments in (["jobs"], ["log-of", str(RUNNING)], ["job", "-L", str(NEXT)], ["envvars"]):
        printed(*arguments)
