"""Cuts connections to a server that has gone silent: frozen, or behind a network that is gone."""

import errno
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

from psycopg import OperationalError

from butido_store._pipeline import Connection
from butido_store.errors import Unavailable

# How often to look, and how long a server may take to say that it is there, in seconds.
_INTERVAL, _PATIENCE = 0.5, 5.0
# https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


class Watched:
    """A connection that is watched in a `with` block, and cut where its server is silent.

    A server that works on a long statement is not silent: it says that it is there if it is asked.
    """

    __slots__ = ("_ask_at", "_connection", "_cut_at", "_silent_for", "_why")

    def __init__(self, connection: Connection, *, silent_for: float, cut_at: float | None) -> None:
        """Say when to look.

        :param connection: what to watch
        :param silent_for: after how many seconds without an answer to ask the server
        :param cut_at: when to cut the connection in any case, by the monotonic clock
        """
        self._connection = connection
        self._silent_for = silent_for
        self._ask_at = time.monotonic() + silent_for
        self._cut_at = cut_at
        self._why: str | None = None

    def __enter__(self) -> Self:
        """Begin to watch."""
        _watch.add(self._connection, self)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """End it.

        :raises Unavailable: the connection was cut
        """
        _watch.remove(self._connection)
        if self._why and isinstance(error, Exception):
            raise Unavailable(self._why) from error

    def is_late(self) -> str | None:
        """Return why to cut the connection where its time is up."""
        if self._cut_at is not None and time.monotonic() >= self._cut_at:
            return "an answer of the server took longer than its timeout"
        return None

    def is_silent(self, asked: "dict[_Address, _Question]") -> str | None:
        """Return why to cut the connection where its server does not answer.

        :param asked: what servers are being asked; one more is put there
        """
        if time.monotonic() < self._ask_at:
            return None
        try:
            info = self._connection.info
            address = info.hostaddr or info.host, info.port
        except OperationalError:
            return None  # The connection is closed: the run is about to end.
        if address not in asked:
            asked[address] = _Question(*address)
        answered = asked[address].answered
        if answered is False:
            return f"the server is silent, and did not answer in {_PATIENCE:.0f} s either"
        if answered:
            self._ask_at = time.monotonic() + self._silent_for
        return None

    def cut(self, why: str) -> None:
        """Have the driver find the stream at its end."""
        self._why = why
        with (
            suppress(OSError, OperationalError),
            socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)


_Address = tuple[str, int]


class _Question:
    """Asks a server, as connections begin, whether it speaks TLS: any answer will do.

    It never waits, since others have deadlines that are to be kept meanwhile.
    """

    def __init__(self, host: str, port: int) -> None:
        """Ask."""
        # None where it may still do so.
        self.answered: bool | None = None
        self._until = time.monotonic() + _PATIENCE
        self._sent = False
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._address: str | _Address = (host, port)
        if host.startswith(("/", "@")):
            kind = socket.AF_UNIX
            self._address = f"{host}/.s.PGSQL.{port}".replace("@", "\0", 1)
        try:
            self._asking = socket.socket(kind)
        except OSError:
            self.answered = True  # This process has no descriptor left, which says nothing of it.
            return
        self._asking.setblocking(False)
        self.look()

    def look(self) -> None:
        """Look whether it has answered, or has not in its time."""
        if self.answered is not None:
            return
        try:
            self.answered = self._answer()
        except OSError:
            self.answered = False
        if self.answered is None and time.monotonic() >= self._until:
            self.answered = False
        if self.answered is not None:
            self.close()

    def _answer(self) -> bool | None:
        if not self._sent:
            known = self._asking.connect_ex(self._address)
            # EAGAIN: of a socket with a path, whose server has let in nobody for a while.
            if known in (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN):
                return None
            if known not in (0, errno.EISCONN):
                return False
            self._asking.send(_SSL_REQUEST)
            self._sent = True
        try:
            return bool(self._asking.recv(1))
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Listen no more."""
        self._asking.close()


class _Watch:
    """The connections that are watched, and the thread that looks after them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[Connection, Watched] = {}
        self._some = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, connection: Connection, watched: Watched) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._look, name="butido_store", daemon=True)
                # At the end of the interpreter there is none to be had.
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            self._watched[connection] = watched
        if not self._some.is_set():
            self._some.set()

    def remove(self, connection: Connection) -> None:
        with self._lock:
            self._watched.pop(connection, None)

    def _look(self) -> None:
        asked: dict[_Address, _Question] = {}
        while self._some.wait():
            time.sleep(_INTERVAL)
            with self._lock:
                watched = [*self._watched.items()]
                if not watched:
                    self._some.clear()
            for question in asked.values():
                question.look()
            for connection, one in watched:
                if connection.closed:
                    self.remove(connection)
                elif why := one.is_late() or one.is_silent(asked):
                    with self._lock:
                        # Not one whose run has ended meanwhile.
                        if self._watched.get(connection) is one:
                            one.cut(why)
            for address, question in [*asked.items()]:
                if question.answered is not None:
                    del asked[address]
                elif not watched:
                    # It would tell of then, not of when somebody asks again.
                    question.close()
                    del asked[address]


_watch = _Watch()


def _begin_anew() -> None:
    """Have another one in a fork's child: the thread is not there, and the lock may be held."""
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_begin_anew)
