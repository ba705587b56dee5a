"""A link that breaks on demand: between a client and a server, message by message.

It knows where a message of PostgreSQL's protocol ends, and no more of it:
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Direction = Literal["up", "down"]
# Requests for encryption, which are answered with a single byte.
_ENCRYPTION = (80877103, 80877104)
_LINGER_NOT = struct.pack("ii", 1, 0)


class _Cut(Exception):
    """The link is to be cut here."""


@dataclass(eq=False)
class _Link:
    client: socket.socket
    server: socket.socket
    # The client is told by TCP that it was no orderly end, and so nothing may end in order.
    reset: bool = False

    def cut(self, *, reset: bool = False) -> None:
        """End both sides, whose threads notice; `_begin` closes them, when both have ended."""
        if reset and self.client.family == socket.AF_INET:
            with suppress(OSError):
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                self.reset = True
        for end in (self.client, self.server):
            # Whoever waits for what comes would wait on if it were closed; this says no word.
            how = socket.SHUT_RD if self.reset and end is self.client else socket.SHUT_RDWR
            with suppress(OSError):
                end.shutdown(how)

    def end(self, target: socket.socket) -> None:
        """Have one side know that the other one has ended in order."""
        if not self.reset:
            target.shutdown(socket.SHUT_WR)


class Proxy:
    """Passes on what clients and a server say, until it is told to freeze or cut it."""

    def __init__(self, dsn: str, directory: Path | None = None) -> None:
        """Listen.

        :param dsn: of the server, which has a unix socket
        :param directory: of a unix socket to listen on; without one it listens on the loopback
        """
        given = conninfo_to_dict(dsn)
        self._target = f"{given['host']}/.s.PGSQL.{given.get('port') or 5432}"
        if directory is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            host, port = "127.0.0.1", self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(directory / ".s.PGSQL.5432"))
            self._listener.listen()
            host, port = str(directory), 5432
        self.dsn = make_conninfo(dsn, host=host, port=port)
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._armed: Direction | None = None
        self._left = 0
        self.cuts = 0
        # How many links clients have begun.
        self.begun = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        """Use it in a `with` block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.thaw()
        self.cut()

    def freeze(self) -> None:
        """Pass nothing on until `thaw`."""
        self._open.clear()

    def thaw(self) -> None:
        """Pass on what was held back, and what comes."""
        self._open.set()

    def cut(self, *, reset: bool = False) -> int:
        """Cut all links that there are; return how many."""
        with self._lock:
            links = [*self._links]
        for link in links:
            link.cut(reset=reset)
        return len(links)

    def arm(self, direction: Direction | None, before: int = 0) -> None:
        """Have a link cut before a message, counted from now on; None for no cut.

        :param direction: `up` counts what clients say, `down` what the server says
        :param before: how many of its messages still pass
        """
        with self._lock:
            self._armed, self._left = direction, before

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.begun += 1
                if client.family == socket.AF_INET:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._begin, args=(client,), daemon=True).start()

    def _begin(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        link = _Link(client, server)
        with client, server, suppress(OSError, _Cut):
            # A frozen link hides even that nobody listens any more.
            self._open.wait()
            server.connect(self._target)
            with self._lock:
                self._links.add(link)
            try:
                self._begin_link(link)
            finally:
                with self._lock:
                    self._links.discard(link)
                link.cut()

    def _begin_link(self, link: _Link) -> None:
        """Pass on how the client begins, which has no kind, and then the rest."""
        while True:
            head = _read(link.client, 8)
            length, code = struct.unpack("!II", head)
            rest = _read(link.client, length - 8)
            self._open.wait()
            link.server.sendall(head + rest)
            if code not in _ENCRYPTION:
                break
            answer = link.server.recv(1)
            self._open.wait()
            link.client.sendall(answer)
        down = threading.Thread(target=self._pass_on, args=(link, "down"), daemon=True)
        down.start()
        self._pass_on(link, "up")
        down.join()

    def _pass_on(self, link: _Link, direction: Direction) -> None:
        source, target = link.client, link.server
        if direction == "down":
            source, target = target, source
        held = bytearray()
        try:
            while data := source.recv(65536):
                held += data
                while len(held) >= 5:
                    (length,) = struct.unpack_from("!I", held, 1)
                    if len(held) < length + 1:
                        break
                    self._open.wait()
                    self._count(direction)
                    target.sendall(held[: length + 1])
                    del held[: length + 1]
            link.end(target)
        except (_Cut, OSError):
            link.cut()

    def _count(self, direction: Direction) -> None:
        with self._lock:
            if self._armed == direction:
                if not self._left:
                    self._armed = None
                    self.cuts += 1
                    raise _Cut
                self._left -= 1


def _read(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise OSError("the client is gone")
        data += more
    return data
