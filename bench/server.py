"""The server that is measured, and its databases: one for each size, generated once and kept."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psycopg
from generate import generate
from psycopg import sql
from psycopg.conninfo import make_conninfo

from butido_store.admin.migrate import Migrator, shipped
from butido_store.embedded import Server

# The year that generated jobs end in, so that the same size is the same rows on any day.
UNTIL = date(2026, 1, 1)
# What was generated or measured with other migrations counts no more.
MIGRATIONS = hashlib.sha256(b"".join(file.sha256 for file in shipped())).hexdigest()[:8]


@contextmanager
def server(directory: Path, dsn: str | None) -> Iterator[str]:
    """Lend a server that may be filled: the embedded one in a directory, or one that is given.

    :param directory: where the embedded server keeps its data
    :param dsn: of a role that may create databases, or None for the embedded server
    :returns: a DSN, of any database
    """
    if dsn is not None:
        yield dsn
        return
    embedded = Server(directory / "server")
    with embedded, psycopg.connect(embedded.dsn, autocommit=True) as connection:
        # A bulk load would be one checkpoint after another; 16 writers of each peer are connected.
        connection.execute("ALTER SYSTEM SET max_wal_size = '1GB'")
        connection.execute("ALTER SYSTEM SET max_connections = 200")
    # What it is configured with counts from its next start.
    with embedded:
        yield embedded.dsn


def database(dsn: str, name: str) -> str:
    """Make an empty store in a database of its own, which replaces one of that name.

    :param dsn: of any database of the server
    :param name: the new one's name
    :returns: its DSN
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
        for statement in (drop, create):
            connection.execute(statement.format(sql.Identifier(name)))
    new = make_conninfo(dsn, dbname=name)
    with psycopg.connect(new, autocommit=True) as connection:
        Migrator(connection).apply()
    return new


@contextmanager
def unflushed(dsn: str) -> Iterator[None]:
    """Have new sessions of a database not wait for the disk, while it is prepared.

    :param dsn: of the database
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        off = sql.SQL("ALTER DATABASE {} SET synchronous_commit = off")
        connection.execute(off.format(name))
        yield
        connection.execute(sql.SQL("ALTER DATABASE {} RESET synchronous_commit").format(name))


@contextmanager
def without_full_pages(dsn: str) -> Iterator[None]:
    """Have a server of the benchmark's own log no images of full pages.

    :param dsn: of any of its databases
    """

    def switch(connection: psycopg.Connection[tuple[str]], value: str) -> None:
        connection.execute(f"ALTER SYSTEM SET full_page_writes = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SHOW full_page_writes").fetchone() != (value,):
            connection.execute("SELECT pg_sleep(0.01)")

    with psycopg.connect(dsn, autocommit=True) as connection:
        switch(connection, "off")
        try:
            yield
        finally:
            switch(connection, "on")


def filled(dsn: str, jobs: int) -> str:
    """Return the DSN of a store with generated jobs, made where it is not there yet.

    :param dsn: of any database of the server
    :param jobs: how many jobs
    """
    name = f"butido_bench_{jobs}_{MIGRATIONS}"
    unfinished = f"{name}_unfinished"
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
    if found is None:
        start = time.monotonic()
        generate(database(dsn, unfinished), jobs=jobs, until=UNTIL)
        with psycopg.connect(dsn, autocommit=True) as connection:
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            connection.execute(rename.format(sql.Identifier(unfinished), sql.Identifier(name)))
        print(f"generated {jobs} jobs in {time.monotonic() - start:.0f} s", flush=True)
    return make_conninfo(dsn, dbname=name)
