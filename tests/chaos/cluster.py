"""PostgreSQL under Patroni: three members, of which one is the primary, and etcd, which decides.

They are on the loopback, or, so that the network between them can be cut, in network namespaces:
each member has one of its own, and this thread, with all that it starts, one that all of them meet
in. The kernel removes a namespace when nobody has it open any more.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from butido_store.embedded import find_binaries

_PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
PATRONI, ETCD = shutil.which("patroni", path=_PATH), shutil.which("etcd")
NAMES = ("a", "b", "c")
# The primary holds a key for ttl seconds, the least that Patroni takes; a killed one is replaced.
_RULES = {
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "primary_start_timeout": 0,
    "synchronous_mode": True,
    "postgresql": {"use_pg_rewind": True},
}
_SETTINGS = {"fsync": "off", "shared_buffers": "16MB"}
# For how long to wait for a state, and for an answer, which a switchover has at its end.
_PATIENCE, _ANSWER = 120.0, 5.0
_NEW_NETWORK = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Cluster:
    """The members, and etcd, in a directory."""

    def __init__(self, place: Path, network: "Network", account: Mapping[str, Any]) -> None:
        """Say where; the first member's data is there already.

        :param account: whom all of it runs as, in the words of `subprocess`
        """
        self._place = place
        self._network = network
        self._account = account
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd = network.address(None)
        self._server = {name: network.address(name) for name in NAMES}
        self._rest = {name: network.address(name) for name in NAMES}

    @property
    def dsn(self) -> str:
        """DSN of whoever is the primary."""
        hosts, ports = zip(*self._server.values(), strict=True)
        return make_conninfo(
            user="butido",
            dbname="butido",
            host=",".join(hosts),
            port=",".join(map(str, ports)),
            target_session_attrs="read-write",
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have all of it run, with a primary and a synchronous standby."""
        for name in ("etcd", *NAMES):
            place = self._place / name
            place.mkdir(mode=0o755, exist_ok=True)
            if self._account:
                os.chown(place, self._account["user"], self._account["group"])
        try:
            self._start_etcd()
            first, *others = NAMES
            self.start(first)
            assert self.primary == first
            self._ask(first, "PUT", "/config", _RULES)
            for name in others:
                self.start(name)
            self.until_whole()
            yield
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            for name in NAMES:
                with suppress(OSError, ValueError):
                    self._end_server(name)

    def _start(self, name: str, place: str | None, *command: str | Path) -> None:
        with (self._place / f"{name}.log").open("ab") as log, self._network.within(place):
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._place / name,
                **self._account,
            )

    def _start_etcd(self) -> None:
        assert ETCD
        here, peers = (_url(one) for one in (self._etcd, self._network.address(None)))
        self._start(
            "etcd",
            None,
            ETCD,
            f"--data-dir={self._place / 'etcd' / 'data'}",
            f"--listen-client-urls={here}",
            f"--advertise-client-urls={here}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )

    def start(self, name: str) -> None:
        """Start Patroni, which starts the member's server."""
        assert PATRONI
        server, rest, etcd = (
            f"{host}:{port}" for host, port in (self._server[name], self._rest[name], self._etcd)
        )
        user = {"username": "butido"}
        said = {
            "scope": "butido",
            "name": name,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd3": {"host": etcd},
            "postgresql": {
                "listen": server,
                "connect_address": server,
                "data_dir": str(self._place / name / "data"),
                "bin_dir": str(find_binaries()),
                "pgpass": str(self._place / name / "pgpass"),
                "authentication": {"superuser": user, "replication": user},
                "pg_hba": ["host all all all trust", "host replication all all trust"],
                "parameters": {**_SETTINGS, "unix_socket_directories": ""},
            },
        }
        path = self._place / f"{name}.yml"
        path.write_text(json.dumps(said))
        self._start(name, name, PATRONI, path)

    def revive(self, name: str) -> None:
        """Start a member's Patroni, if it was killed."""
        if self._running[name].poll() is not None:
            self.start(name)

    def kill(self, name: str) -> None:
        """Kill a member's Patroni, which leaves its server behind."""
        self._running[name].kill()
        self._running[name].wait()

    def kill_server(self, name: str) -> None:
        """Kill a member's server; what else it runs ends when it notices."""
        os.kill(self._pid(name), signal.SIGKILL)

    def _pid(self, name: str) -> int:
        return int((self._place / name / "data" / "postmaster.pid").read_text().split()[0])

    def _end_server(self, name: str) -> None:
        pid = self._pid(name)
        os.kill(pid, signal.SIGQUIT)
        self._until(lambda: not Path(f"/proc/{pid}").exists())

    def switch_over(self) -> None:
        """Have the synchronous standby and the primary change places."""
        primary = self.primary
        said = {"leader": primary, "candidate": self.standby}
        self._ask(primary, "POST", "/switchover", said)

    def members(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return what the members are, as one of them has it: any that answers, or this one."""
        for one in [name] if name else NAMES:
            with suppress(OSError, ValueError):
                found: list[dict[str, Any]] = self._ask(one, "GET", "/cluster")["members"]
                return found
        return []

    @property
    def primary(self) -> str:
        """Who is the primary, once there is one."""
        return self._only("leader")

    @property
    def standby(self) -> str:
        """Who has to confirm each commit, once there is one."""
        return self._only("sync_standby")

    def _only(self, role: str) -> str:
        found: list[str] = []

        def there() -> bool:
            found[:] = _with_role(self.members(), role)
            return len(found) == 1

        self._until(there)
        return found[0]

    def until_another_than(self, name: str) -> None:
        """Wait until another one is the primary, as one of the others has it."""
        others = [one for one in NAMES if one != name]
        self._until(
            lambda: any(
                primary != name
                for one in others
                for primary in _with_role(self.members(one), "leader")
            )
        )

    def until_whole(self) -> None:
        """Wait until all are there, and one of them has to confirm each commit."""

        def whole() -> bool:
            said = self.members()
            states = sorted(one["state"] for one in said)
            return (
                states == ["running", "streaming", "streaming"]
                and len(_with_role(said, "leader")) == 1
                and len(_with_role(said, "sync_standby")) == 1
            )

        self._until(whole)

    def _until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster does not get there: {self.members()}")
            time.sleep(0.1)

    def _ask(self, name: str, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            _url(self._rest[name]) + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
            text = answer.read()
        return json.loads(text) if path in ("/cluster", "/config") else text


def _url(address: tuple[str, int]) -> str:
    return "http://{}:{}".format(*address)


def _with_role(members: list[dict[str, Any]], role: str) -> list[str]:
    return [one["name"] for one in members if one["role"] == role]


class Network:
    """What the members are connected by: the loopback, which cannot be cut."""

    def address(self, name: str | None) -> tuple[str, int]:
        """Return a host and a port that nobody has, of a member, or else of etcd."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port: int = taken.getsockname()[1]
        return "127.0.0.1", port

    @contextmanager
    def within(self, name: str | None) -> Iterator[None]:
        """Be where a member is, so that what is started is there."""
        yield


class Namespaces(Network):
    """A network whose links can be cut, without a word to anybody."""

    def __init__(self) -> None:
        """Prepare nothing yet."""
        self._port = 5432
        self._hub = -1
        self._of: dict[str, int] = {}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the network, where all members can be reached.

        :raises OSError: this machine has no such thing, or does not let this user have it
        """
        with ExitStack() as stack:
            outside = stack.enter_context(_namespace())
            stack.callback(_enter, outside)
            self._hub = stack.enter_context(_new_namespace())
            for name in NAMES:
                self._of[name] = stack.enter_context(_new_namespace())
            _enter(self._hub)
            _ip("link set dev lo up")
            _ip("link add name bridge type bridge")
            _ip(f"addr add {self._host(None)}/24 dev bridge")
            _ip("link set dev bridge up")
            for name in NAMES:
                place = f"/proc/{os.getpid()}/fd/{self._of[name]}"
                _ip(f"link add name to-{name} type veth peer name link netns {place}")
                _ip(f"link set dev to-{name} up")
                self.mend(name)
                with self.within(name):
                    _ip("link set dev lo up")
                    _ip(f"addr add {self._host(name)}/24 dev link")
                    _ip("link set dev link up")
            yield

    @staticmethod
    def _host(name: str | None) -> str:
        return f"10.77.0.{NAMES.index(name) + 2 if name else 1}"

    def address(self, name: str | None) -> tuple[str, int]:
        """Return a host and a port that nobody has, of a member, or else of etcd."""
        self._port += 1
        return self._host(name), self._port

    @contextmanager
    def within(self, name: str | None) -> Iterator[None]:
        """Be where a member is, so that what is started is there."""
        _enter(self._of[name] if name else self._hub)
        try:
            yield
        finally:
            _enter(self._hub)

    def cut(self, name: str) -> None:
        """Have nothing pass to a member, or from it."""
        _ip(f"link set dev to-{name} nomaster")

    def mend(self, name: str) -> None:
        """Have all pass again."""
        _ip(f"link set dev to-{name} master bridge")


@contextmanager
def _namespace() -> Iterator[int]:
    """Have this thread's network namespace open."""
    found = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield found
    finally:
        os.close(found)


@contextmanager
def _new_namespace() -> Iterator[int]:
    """Enter a new network namespace, and have it open."""
    if _libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "there can be no new network namespace")
    with _namespace() as made:
        yield made


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


def _ip(command: str) -> None:
    """Run a command of iproute2."""
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {command}: {done.stderr.strip()}")
