"""This machine, which plays the part of the container: what it is, and how programs run on it."""

import hashlib
import os
import platform
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

ENDPOINT = platform.node() or "localhost"
IMAGE = f"{sys.implementation.name}-{platform.python_version()}-{sysconfig.get_platform()}"
# The name stays when the interpreter is built anew, or pip is another one, which builds the wheels.
IMAGE_SHA256 = hashlib.sha256(f"{sys.version}\npip {version('pip')}\n".encode()).digest()

# Inherited by the builds but not recorded: how this machine gets at a package index says nothing
# about a package, and may hold a password.
_INHERITED = re.compile(
    r"PATH|PIP_(CONFIG_FILE|(EXTRA_)?INDEX_URL|NO_INDEX|FIND_LINKS|TRUSTED_HOST|(CLIENT_)?CERT)"
    r"|PIP_(PROXY|RETRIES|(DEFAULT_)?TIMEOUT)|(https?|no)_proxy|(HTTPS?|NO)_PROXY"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it took together with all that it waited for.

    `exit_code` is negative where a signal ended it.
    """

    exit_code: int
    measurements: Mapping[str, float]

    @property
    def reason(self) -> str:
        """Why it failed, if it did."""
        if self.exit_code < 0:
            return f"killed by signal {-self.exit_code}"
        return "the script failed"


class WheelhouseError(Exception):
    """The build cannot go on, for a reason that its user can do something about."""


class Interrupted(WheelhouseError):
    """The user does not want it any more."""


def container_hash() -> str:
    """Return what tells this build environment from others, as a container's id would."""
    tools = f"{sys.version}\n{platform.platform()}\npip {version('pip')}\n"
    return hashlib.sha256(tools.encode()).hexdigest()


@contextmanager
def room(directory: Path) -> Iterator[Path]:
    """Make an empty place for a build below a directory, and clear it away afterwards."""
    with TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as name:
        for part in ("inputs", "output", "tmp"):
            (Path(name) / part).mkdir()
        yield Path(name)


def environment(place: Path, recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a build: the recorded one, and what it takes to run here."""
    return {
        **{name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)},
        # The user's configuration of pip stays where it is although the home directory is new.
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
        "HOME": str(place),
        "TMPDIR": str(place / "tmp"),
        "PYTHON": sys.executable,
        **recorded,
    }


def run(
    command: Sequence[str],
    place: Path,
    env: Mapping[str, str],
    stop: Event,
    follow: Callable[[bytes], object],
) -> Ended:
    """Run a command to its end.

    :param command: program and arguments
    :param place: where it runs; its output is kept in a file `log` there
    :param env: its whole environment
    :param stop: kills it, with all that it started, when it is set
    :param follow: gets the output as it comes, and b"" from time to time while none comes
    :returns: how it ended
    :raises Interrupted: `stop` was set
    """
    # The output goes through a file, so that neither side ever waits for the other.
    with open(place / "log", "wb") as sink, open(place / "log", "rb") as output:
        # A session of its own: Ctrl-C reaches us only, and we end the whole group.
        process = subprocess.Popen(
            command,
            cwd=place,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            # Waited for by hand, since Popen does not tell what a process took.
            ended = os.wait4(process.pid, os.WNOHANG)
            while not ended[0] and not stop.wait(0.1):
                follow(output.read())
                ended = os.wait4(process.pid, os.WNOHANG)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not ended[0]:
                ended = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(ended[1])
        follow(output.read())
    if stop.is_set():
        raise Interrupted
    took = ended[2]
    # Linux counts in kB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    measured = {
        "cpu_seconds": took.ru_utime + took.ru_stime,
        "peak_memory_bytes": took.ru_maxrss * unit,
    }
    return Ended(process.returncode, measured)
