"""Where clients work, and what happens to them there: a server, a pooler, a disk, a standby."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from pooling import PROGRAM, Pgbouncer
from psycopg import sql
from psycopg.conninfo import make_conninfo
from standby import Pair

from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server, find_binaries
from butido_store.errors import EmbeddedServerError
from chaos import checking, journal
from chaos.checking import Verdict
from chaos.client import PATIENCE
from chaos.cluster import ETCD, PATRONI, Cluster, Namespaces, Network
from chaos.proxy import Proxy

SCHEMAS = ("butido", 'Another "one"')
ROLES = ("butido", "builder")
_SETTINGS = {"fsync": "off", "max_connections": "60", "shared_buffers": "16MB"}
# After this a store asks a silent server whether it is there, which takes up to 5 s more.
_SILENCE = 16.0
_TESTS = Path(__file__).resolve().parent.parent
_ROOM = 1 << 20
# For how long a client of a short round pauses after each act, so that others get something done.
_PAUSE = 0.05


class Impossible(Exception):
    """This machine cannot do it; the message says why."""


class Template:
    """The data of a server that has been set up, of which each scene gets a copy."""

    def __init__(self, place: Path) -> None:
        """Make it."""
        self._place = place
        with (
            Server(place, settings=_SETTINGS) as server,
            psycopg.connect(server.dsn, autocommit=True) as connection,
        ):
            for schema in SCHEMAS:
                Migrator(connection, schema=schema).apply()
            builder = sql.Identifier(ROLES[1])
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(builder))
            for grant in (
                "USAGE ON SCHEMA {}",
                "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {}",
            ):
                for schema in SCHEMAS:
                    what = sql.SQL(grant).format(sql.Identifier(schema))
                    connection.execute(sql.SQL("GRANT {} TO {}").format(what, builder))

    @property
    def account(self) -> dict[str, Any]:
        """Whom its servers run as, in the words of `subprocess`; empty for the caller itself."""
        if os.geteuid():
            return {}
        owner = (self._place / "data").stat()
        return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}

    def copy(self, place: Path) -> None:
        """Give a server that is to be in this directory its data."""
        place.mkdir(mode=0o755, exist_ok=True)
        # With its owner, whom the server runs as.
        subprocess.run(["cp", "-a", self._place / "data", place / "data"], check=True)


class Client:
    """A program that writes, until it is stopped or killed."""

    def __init__(
        self, directory: Path, name: str, dsn: str, schema: str = SCHEMAS[0], **given: object
    ) -> None:
        """Say what it is to do, as `chaos.client` takes it."""
        self.schema = schema
        self.journals: list[Path] = []
        self._stem = directory / name
        self._given = {
            "dsn": make_conninfo(dsn, application_name=f"write {name}"),
            "schema": schema,
            "seed": name,
            "face": "sync",
            "threads": 1,
            "skewed": False,
            "pause": 0.0,
            "mutant": None,
            **given,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.crashes: list[str] = []

    def start(self) -> None:
        """Start it; it first does what the one before it did not end."""
        before = [str(path) for path in self.journals]
        path = self._stem.with_name(f"{self._stem.name}.{len(before)}.journal")
        path.touch()
        self.journals.append(path)
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "chaos.client",
                    json.dumps({**self._given, "journal": str(path), "before": before}),
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "PYTHONPATH": f"{_TESTS}:{os.environ.get('PYTHONPATH', '')}"},
            )

    @property
    def _said(self) -> Path:
        return self._stem.with_suffix(".said")

    def kill(self) -> None:
        """Kill it, and start the next one."""
        self.end()
        self.start()

    def end(self) -> None:
        """Kill it, if it is there."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def ask_to_stop(self) -> None:
        """Have it stop when it is done with what it does."""
        assert self._process
        self._process.terminate()

    def stopped(self) -> None:
        """Wait until it has stopped."""
        assert self._process
        try:
            code = self._process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.crashes.append("a client does not stop")
            self.end()
            return
        if code not in (0, -signal.SIGTERM):  # that where it had not begun yet
            self.crashes.append(f"a client ended with {code}: {self._said.read_text()[-2000:]}")

    @property
    def size(self) -> int:
        """How much it has written to its journals."""
        return sum(path.stat().st_size for path in self.journals)


@dataclass
class Row:
    """What came out of a scene, a row of the table."""

    scene: str
    faults: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    missing: int = 0
    longest: float = 0.0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    skipped: str = ""

    def add(self, verdict: Verdict) -> None:
        """Add what came out of one schema."""
        self.acknowledged += verdict.acknowledged
        self.longest = max(self.longest, verdict.longest)
        self.missing += verdict.kinds["missing"]
        self.wrong += verdict.wrong

    def judge(self, clients: Sequence[Client], dsn: str) -> None:
        """Hold what clients were told against what is there, schema by schema."""
        for schema in sorted({client.schema for client in clients}):
            ours = [client for client in clients if client.schema == schema]
            self.wrong += [("crashed", crash) for client in ours for crash in client.crashes]
            told = journal.read(path for client in ours for path in client.journals)
            self.add(checking.check(told, checking.find(dsn, schema)))


Fault = Callable[[random.Random], None]
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass
class Scene:
    """Clients, and the faults that can happen to them."""

    # To look into when all is over.
    dsn: str
    clients: Sequence[Client]
    faults: dict[str, Fault]
    # Of so many faults that are asked for one happens: each takes as much longer than others.
    share: int = 1

    def play(self, seed: str, count: int, row: Row, note: Callable[[str], None]) -> None:
        """Have so many faults happen, at moments that come of the seed, as they do; and check.

        :param row: where the outcome is added
        :param note: told each fault
        """
        chance = random.Random(seed)
        try:
            for client in self.clients:
                client.start()
            for client in self.clients:
                _until(lambda one=client: one.size > _BEGUN)  # type: ignore[misc]
            for number in range(max(count // self.share, 1)):
                time.sleep(chance.uniform(0.02, 0.5))
                name = chance.choice(list(self.faults))
                note(f"{seed}\t{number}\t{name}")
                self.faults[name](chance)
                row.faults[name] = row.faults.get(name, 0) + 1
            # That what was broken last is mended, too.
            time.sleep(0.5)
            for client in self.clients:
                client.ask_to_stop()
            for client in self.clients:
                client.stopped()
        finally:
            for client in self.clients:
                client.end()
        row.judge(self.clients, self.dsn)


# What a client has written to its journal once it is at work, in bytes.
_BEGUN = 2000


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("clients do not get to work")
        time.sleep(0.02)


# Faults ----------------------------------------------------------------------------------------


def _of_server(server: Server) -> dict[str, Fault]:
    """Return what can happen to a server that runs."""

    def pid() -> int:
        return int((server.directory / "data" / "postmaster.pid").read_text().split()[0])

    def revive() -> None:
        # As one more user of it, which leaves it running for the first one.
        while True:
            with suppress(EmbeddedServerError), server:
                return

    def kill(_: random.Random) -> None:
        os.kill(pid(), signal.SIGKILL)
        revive()

    def restart(_: random.Random) -> None:
        one = pid()
        os.kill(one, signal.SIGINT)
        while Path(f"/proc/{one}").exists():
            time.sleep(0.01)
        revive()

    def some(chance: random.Random, do: Callable[[Connection, int], object]) -> None:
        """Do something to one of the sessions, unless the server is just being restarted."""
        with (
            suppress(psycopg.Error, ProcessLookupError),
            psycopg.connect(server.dsn, autocommit=True) as connection,
        ):
            pids = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() ORDER BY state <> 'active', pid LIMIT 6"
            ).fetchall()
            if pids:
                do(connection, chance.choice(pids)[0])

    def call(function: str) -> Fault:
        query = sql.SQL("SELECT {}(%s)").format(sql.Identifier(function))

        def call(chance: random.Random) -> None:
            some(chance, lambda connection, one: connection.execute(query, [one]))

        return call

    return {
        "kill -9 of the server": kill,
        "restart of the server": restart,
        "kill -9 of a session": lambda chance: some(
            chance, lambda _, one: os.kill(one, signal.SIGKILL)
        ),
        "pg_terminate_backend": call("pg_terminate_backend"),
        "pg_cancel_backend": call("pg_cancel_backend"),
    }


def _of_links(proxies: Sequence[Proxy], *, silence: bool) -> dict[str, Fault]:
    """Return what can happen to links.

    :param silence: one that takes longer than a store waits for a silent server, too
    """

    def cut(chance: random.Random) -> None:
        chance.choice(proxies).cut(reset=chance.random() < 0.5)

    def cut_at(chance: random.Random) -> None:
        chance.choice(proxies).arm(chance.choice(("up", "down")), chance.randrange(40))

    def freeze(seconds: float) -> Fault:
        def freeze(chance: random.Random) -> None:
            proxy = chance.choice(proxies)
            proxy.freeze()
            time.sleep(chance.uniform(seconds / 5, seconds))
            proxy.thaw()

        return freeze

    long: dict[str, Fault] = {"link silent for long": freeze(1.5 * _SILENCE)} if silence else {}
    return {
        "link cut": cut,
        "link cut at a message": cut_at,
        "link frozen": freeze(1.0),
        **long,
    }


def _of_clients(clients: Sequence[Client]) -> dict[str, Fault]:
    return {"kill -9 of a client": lambda chance: chance.choice(clients).kill()}


# Scenes ----------------------------------------------------------------------------------------


@contextmanager
def server(place: Path, template: Template, *, full: bool = False) -> Iterator[Scene]:
    """A server, to which clients have links that break."""
    template.copy(place / "server")
    pause = 0 if full else _PAUSE
    with ExitStack() as stack:
        running = stack.enter_context(Server(place / "server", settings=_SETTINGS))
        proxies = [stack.enter_context(Proxy(running.dsn, one)) for one in (None, _made(place))]
        clients = [
            Client(place, "a", proxies[0].dsn, pause=pause, face="async", skewed=True),
            Client(place, "b", proxies[1].dsn, pause=pause, threads=3),
        ]
        if full:
            clients += [
                Client(place, "c", proxies[0].dsn),
                Client(place, "d", proxies[1].dsn, face="async", threads=3),
            ]
        yield Scene(
            running.dsn,
            clients,
            {
                **_of_server(running),
                **_of_links(proxies, silence=full),
                **_of_clients(clients),
            },
        )


def _made(place: Path) -> Path:
    (place / "link").mkdir()
    return place / "link"


def _pooler(mode: str) -> Callable[..., AbstractContextManager[Scene]]:
    @contextmanager
    def pooler(place: Path, template: Template, *, full: bool = False) -> Iterator[Scene]:
        """A server behind a pooler, with clients of two schemas and two roles."""
        if PROGRAM is None:
            raise Impossible("there is no pgbouncer: install the package of that name")
        template.copy(place / "server")
        (place / "pooler").mkdir()
        with ExitStack() as stack:
            running = stack.enter_context(Server(place / "server", settings=_SETTINGS))
            bouncer = Pgbouncer(
                place / "pooler", str(running.socket_directory), mode=mode, size=5, roles=ROLES
            )
            stack.callback(bouncer.kill)
            bouncer.start()
            proxy = stack.enter_context(Proxy(bouncer.through(running.dsn), _made(place)))
            clients = [
                Client(
                    place,
                    f"{number}{role}",
                    make_conninfo(proxy.dsn, user=role),
                    schema,
                    face=("sync", "async")[number],
                    threads=2 if role == ROLES[0] else 1,
                    pause=0 if full else _PAUSE,
                )
                for number, schema in enumerate(SCHEMAS)
                for role in ROLES[: 2 if full or number else 1]
            ]

            def kill(_: random.Random) -> None:
                bouncer.kill()
                bouncer.start()

            def restart(_: random.Random) -> None:
                bouncer.signal(signal.SIGTERM)
                bouncer.wait()
                bouncer.start()

            of_server = _of_server(running)
            yield Scene(
                running.dsn,
                clients,
                {
                    "kill -9 of the pooler": kill,
                    "restart of the pooler": restart,
                    "reload of the pooler": lambda _: bouncer.signal(signal.SIGHUP),
                    **of_server,
                    **_of_links([proxy], silence=full),
                    **_of_clients(clients),
                },
            )

    return pooler


session_pooler, transaction_pooler = _pooler("session"), _pooler("transaction")


@contextmanager
def disk(place: Path, template: Template, *, full: bool = False) -> Iterator[Scene]:
    """A server whose disk is full now and then."""
    small = place / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m,mode=755", "tmpfs", small],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        raise Impossible(f"no small disk can be mounted: {mounted.stderr.strip()}")
    try:
        template.copy(small / "server")
        pause = 0 if full else _PAUSE
        with Server(small / "server", settings=_SETTINGS) as running:
            clients = [
                Client(place, "a", running.dsn, pause=pause, threads=2),
                *([Client(place, "b", running.dsn, face="async", threads=2)] if full else []),
            ]
            of_server = _of_server(running)

            def fill(chance: random.Random) -> None:
                filler = small / "filler"
                with suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(_ROOM))
                # What a short write has left.
                with suppress(OSError), filler.open("ab", buffering=0) as file:
                    while file.write(bytes(512)):
                        pass
                time.sleep(chance.uniform(0.2, 3 if full else 1))
                filler.unlink()
                # It may have given up.
                while True:
                    with suppress(EmbeddedServerError), running:
                        return

            yield Scene(
                running.dsn,
                clients,
                {
                    "disk full": fill,
                    "kill -9 of the server": of_server["kill -9 of the server"],
                    **_of_clients(clients),
                },
            )
    finally:
        subprocess.run(["umount", small], check=True)
        shutil.rmtree(small, ignore_errors=True)


SCENES: dict[str, Callable[..., AbstractContextManager[Scene]]] = {
    "server and links": server,
    "pgbouncer, session mode": session_pooler,
    "pgbouncer, transaction mode": transaction_pooler,
    "full disk": disk,
}


# Failover by Patroni ---------------------------------------------------------------------------


@contextmanager
def _clustered(place: Path, template: Template, network: Network) -> Iterator[Scene]:
    """A primary and two standbys, one of which confirms, under clients that know all three."""
    if PATRONI is None:
        raise Impossible("there is no Patroni: pip install 'patroni[etcd3]' 'psycopg[binary]'")
    if ETCD is None:
        raise Impossible("there is no etcd: install the package etcd-server")
    for program in (PATRONI, ETCD, find_binaries() / "postgres"):
        try:
            subprocess.run([program, "--version"], stdout=subprocess.PIPE, **template.account)
        except OSError as error:
            raise Impossible(f"the server's user cannot run it: {error}") from error
    template.copy(place / "a")
    cluster = Cluster(place, network, template.account)

    def whole_after(do: Callable[[str], object]) -> Fault:
        """Do something to the primary, and wait until another one is in its place."""

        def fault(_: random.Random) -> None:
            primary = cluster.primary
            do(primary)
            cluster.until_another_than(primary)
            if isinstance(network, Namespaces):
                network.mend(primary)
            cluster.revive(primary)
            cluster.until_whole()

        return fault

    def lose(primary: str) -> None:
        cluster.kill(primary)
        cluster.kill_server(primary)

    def cut_standby(chance: random.Random) -> None:
        standby = cluster.standby
        assert isinstance(network, Namespaces)
        network.cut(standby)
        time.sleep(chance.uniform(1, 30))
        network.mend(standby)
        cluster.until_whole()

    if isinstance(network, Namespaces):
        faults = {
            "network of the primary cut": whole_after(network.cut),
            "network of the standby cut": cut_standby,
        }
    else:
        faults = {
            "switchover": whole_after(lambda _: cluster.switch_over()),
            "kill -9 of the primary": whole_after(cluster.kill_server),
            "kill -9 of the primary's Patroni": whole_after(cluster.kill),
            "kill -9 of the primary and its Patroni": whole_after(lose),
        }
    with cluster.running():
        dsn = cluster.dsn
        clients = [
            Client(place, "w1", dsn),
            Client(place, "w2", dsn, face="async", threads=2),
            Client(place, "w3", dsn, threads=2),
        ]
        yield Scene(dsn, clients, faults, share=8)


@contextmanager
def patroni(place: Path, template: Template, *, full: bool = False) -> Iterator[Scene]:
    """Have Patroni replace a primary that is killed, or told to go."""
    with _clustered(place, template, Network()) as scene:
        yield scene


@contextmanager
def patroni_cut_off(place: Path, template: Template, *, full: bool = False) -> Iterator[Scene]:
    """Have Patroni replace a primary that nobody reaches any more."""
    network = Namespaces()
    with ExitStack() as stack:
        try:
            stack.enter_context(network.entered())
        except OSError as error:
            raise Impossible(f"no network namespaces can be made: {error}") from error
        yield stack.enter_context(_clustered(place, template, network))


CLUSTERS: dict[str, Callable[..., AbstractContextManager[Scene]]] = {
    "Patroni": patroni,
    "Patroni, network cut": patroni_cut_off,
}


# Failover --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """How a primary is lost."""

    # What ends the waits for a frozen standby before, one after the other; else nothing is frozen.
    ends: Sequence[str] = ()
    synchronous: bool = True
    # For how many seconds before the standby receives nothing.
    behind: float = 0.0


LOSSES = {
    "failover, synchronous standby": Loss(),
    "failover, synchronous, waits cancelled": Loss(["pg_cancel_backend"] * 4),
    "failover, synchronous, waits terminated": Loss(["pg_terminate_backend"] * 4),
    "failover, asynchronous standby": Loss(synchronous=False),
    "failover, asynchronous standby, a second behind": Loss(synchronous=False, behind=1.0),
}


@contextmanager
def fail_over(
    place: Path,
    template: Template,
    loss: Loss,
    *,
    seconds: float = 1.0,
    mutants: Sequence[str | None] = (None, None, None),
) -> Iterator[tuple[list[Client], str]]:
    """Lose a primary under clients that know both hosts, and yield them, when they have stopped.

    :param seconds: for how long they work, before and after
    :param mutants: of each client which guard it is without
    :returns: the clients, and the DSN of the server that took the primary's place
    """
    template.copy(place / "a")
    pair = Pair(place, {})
    dsn = make_conninfo(
        pair.primary.dsn,
        host=f"{pair.primary.socket_directory},{pair.standby.socket_directory}",
        port="5432,5432",
        target_session_attrs="read-write",
    )
    clients = [
        Client(place, f"{number}", dsn, face=("sync", "async")[number % 2], mutant=mutant)
        for number, mutant in enumerate(mutants)
    ]
    with pair.running(synchronous=loss.synchronous):
        try:
            for client in clients:
                client.start()
            for client in clients:
                _until(lambda one=client: one.size > _BEGUN)  # type: ignore[misc]
            time.sleep(seconds)
            if loss.ends:
                pair.freeze()
                before: set[tuple[str, int, object]] = set()
                for function in loss.ends:
                    # Each waits, and anew.
                    while len({name for name, *_ in pair.waits() - before}) < len(clients):
                        time.sleep(0.01)
                    waits = pair.waits() - before
                    before |= waits
                    pair.signal(function, waits)
            if loss.behind:
                pair.freeze()
                time.sleep(loss.behind)
            pair.fail_over()
            time.sleep(seconds)
            for client in clients:
                client.ask_to_stop()
            for client in clients:
                client.stopped()
        finally:
            for client in clients:
                client.end()
        yield clients, pair.standby.dsn
