"""A link that is cut is at its end for both sides, also for one that waits for what comes."""

import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from chaos.proxy import Proxy

pytestmark = pytest.mark.any_server

_BEGIN = struct.pack("!II", 8, 196608)
_ASK = struct.pack("!cI", b"Q", 4)
# Several, since a thread of the proxy may not have come to wait yet.
LINKS = 10


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_both_sides_of_a_link_that_is_cut_are_told(
    kind: str, reset: bool, short_directory: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(short_directory / ".s.PGSQL.5432"))
        server.listen()
        place = None
        if kind == "unix":
            place = short_directory / "link"
            place.mkdir()
        proxy = stack.enter_context(Proxy(f"host={short_directory} port=5432", place))
        given = conninfo_to_dict(proxy.dsn)
        links = []
        for _ in range(LINKS):
            if place:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(place / ".s.PGSQL.5432"))
            else:
                client = stack.enter_context(
                    socket.create_connection((str(given["host"]), int(str(given["port"]))))
                )
            client.sendall(_BEGIN)
            session = stack.enter_context(server.accept()[0])
            for end in (client, session):
                end.settimeout(10)
            assert session.recv(100) == _BEGIN
            client.sendall(_ASK)
            assert session.recv(100) == _ASK
            links.append((client, session))
        assert proxy.cut(reset=reset) == LINKS
        for client, session in links:
            assert session.recv(100) == b""
            if reset and kind == "tcp":
                with pytest.raises(ConnectionResetError):
                    client.recv(100)
            else:
                assert client.recv(100) == b""
