"""A network that takes its time: a proxy on the loopback that holds back what passes, both ways.

It needs no privileges. Data is delayed, not slowed down: what is sent together arrives together.
"""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from queue import SimpleQueue

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SIZE = 65536


def _connect(host: str, port: int) -> socket.socket:
    if host.startswith("/"):
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(f"{host}/.s.PGSQL.{port}")
        return upstream
    return socket.create_connection((host, port))


def _pass_on(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Send what comes from one side to the other, each piece when its time has come."""
    held: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def send() -> None:
        while True:
            due, data = held.get()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return

    threading.Thread(target=send, daemon=True).start()
    data = b"-"
    while data:
        try:
            data = source.recv(_SIZE)
        except OSError:
            data = b""
        held.put((time.monotonic() + seconds, data))


def _serve(host: str, port: int, round_trip: float, ready: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready.send(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upstream = _connect(host, port)
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=_pass_on, args=(*pair, round_trip / 2), daemon=True).start()


@contextmanager
def delayed(dsn: str, round_trip: float) -> Iterator[str]:
    """Lend a DSN of the same database, as far away as this.

    :param dsn: of the database, by host or unix socket
    :param round_trip: seconds to add to each round trip; 0 for the DSN as it is
    """
    if not round_trip:
        yield dsn
        return
    given = conninfo_to_dict(dsn)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    address = str(given.get("host") or "127.0.0.1"), int(str(given.get("port") or 5432))
    proxy = context.Process(target=_serve, args=(*address, round_trip, theirs), daemon=True)
    proxy.start()
    try:
        yield make_conninfo(dsn, host="127.0.0.1", port=ours.recv(), sslmode="disable")
    finally:
        proxy.terminate()
        proxy.join()
