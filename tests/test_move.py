"""A store that moves to a server of another version: by dump and restore, and by replication."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from filled import RUNNING, WRITTEN
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import create, finish
from test_schema import content, definitions

from butido_store import Store, uuid7
from butido_store.admin import drift
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server, find_binaries
from butido_store.errors import SchemaMismatch

pytestmark = [pytest.mark.own_server, pytest.mark.any_server]

DEBIAN = Path("/usr/lib/postgresql/15/bin")
SETTINGS = {
    "fsync": "off",
    "wal_level": "logical",
    # A worker begins with each table; by default only one in 5 s.
    "wal_retrieve_retry_interval": "20ms",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    """PostgreSQL 15, which compresses with lz4, and the newest that there is."""
    if not (DEBIAN / "postgres").exists():
        pytest.skip("there is no PostgreSQL 15: install the package postgresql-15")
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="butido-") as directory,
    ):
        patch.delenv("BUTIDO_STORE_BINDIR", raising=False)
        if find_binaries() == DEBIAN:
            pytest.skip("there is no other PostgreSQL than 15")
        place = Path(directory)
        place.chmod(0o755)
        new = Server(place / "new", settings=SETTINGS)
        patch.setenv("BUTIDO_STORE_BINDIR", str(DEBIAN))
        old = Server(place / "old", settings=SETTINGS | {"default_toast_compression": "lz4"})
        with old, new:
            yield old, new


def database(server: Server, name: str) -> str:
    """Make a database, and return its DSN."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_conninfo(server.dsn, dbname=name)


def migrated(server: Server, name: str, schema: str) -> str:
    """Make a database with an empty store, and return its DSN."""
    dsn = database(server, name)
    with psycopg.connect(dsn) as connection:
        Migrator(connection, schema=schema).apply()
    return dsn


def test_a_dump_moves_a_store_to_another_version_and_back(
    servers: tuple[Server, Server], schema: str, tmp_path: Path
) -> None:
    old, new = servers
    start = migrated(old, "start", schema)
    with Store.connect(start, schema=schema) as store:
        for statement in WRITTEN:
            store.run(statement)
    before = content(start, schema)

    def move(source: str, target: str) -> None:
        # Only a pg_dump that is as new as the newer of both servers can.
        dump = subprocess.run(
            [new.bindir / "pg_dump", "--no-owner", source], check=True, capture_output=True
        ).stdout
        # A setting that the older one does not know, at its default.
        lines = [one for one in dump.split(b"\n") if one != b"SET transaction_timeout = 0;"]
        file = tmp_path / "dump.sql"
        file.write_bytes(b"\n".join(lines))
        subprocess.run(
            [new.bindir / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", file, target],
            check=True,
            capture_output=True,
            env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        )

    for source, target, server in (
        (start, database(new, "there"), new),
        (make_conninfo(new.dsn, dbname="there"), database(old, "back"), old),
    ):
        move(source, target)
        assert content(target, schema) == before
        fresh = migrated(server, "fresh", schema)
        assert definitions(target, schema) == definitions(fresh, schema)
        with psycopg.connect(target) as connection:
            assert Migrator(connection, schema=schema).apply() == []
            assert drift.check(connection, schema=schema).differences == []
    with Store.connect(target, schema=schema) as store:
        store.run(create(uuid7(), package="new", env={"NEW": "1"}), finish(RUNNING, "new"))


def test_after_replication_a_sequence_that_is_behind_is_told_with_what_mends_it(
    servers: tuple[Server, Server], schema: str
) -> None:
    source, target = (migrated(server, "replicated", schema) for server in servers)
    with Store.connect(source, schema=schema) as store:
        for statement in WRITTEN:
            store.run(statement)
    with (
        psycopg.connect(source, autocommit=True) as publisher,
        psycopg.connect(target, autocommit=True) as subscriber,
    ):
        tables = [sql.Identifier(schema, name) for name in content(source, schema)]
        publisher.execute(
            sql.SQL("CREATE PUBLICATION moved FOR TABLE {}").format(sql.SQL(", ").join(tables))
        )
        subscriber.execute(
            sql.SQL("CREATE SUBSCRIPTION moved CONNECTION {} PUBLICATION moved").format(source)
        )
        unready = "SELECT 1 FROM pg_subscription_rel WHERE srsubstate <> 'r'"
        while subscriber.execute(unready).rowcount:
            time.sleep(0.01)
        subscriber.execute("DROP SUBSCRIPTION moved")
        assert content(target, schema) == content(source, schema)

        def write() -> None:
            with Store.connect(target, schema=schema) as store:
                store.run(create(uuid7(), package="new", image="new", env={"NEW": "1"}))

        mended = set()
        while True:
            try:
                write()
            except SchemaMismatch as error:
                _, _, rest = str(error).partition("the sequence of ")
                table = rest.partition(".id is behind")[0]
                assert table not in mended
                mended.add(table)
                advice = str(error).partition("run ")[2].partition(", and the same")[0]
                assert advice.startswith("SELECT setval(")
                subscriber.execute(advice.encode())
            else:
                break
        assert mended >= {"package", "image", "envvar", "environment"}
