"""The server that is measured, and its databases: one for each size, generated once and kept."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psycopg
from generate import generate
from psycopg import sql
from psycopg.conninfo import make_conninfo

from butido_store.embedded import Server
from butido_store.migrate import Migrator

# The year that generated jobs end in, so that the same size is the same rows on any day.
UNTIL = date(2026, 1, 1)


@contextmanager
def server(directory: Path, dsn: str | None) -> Iterator[str]:
    """Lend a server that may be filled: the embedded one in a directory, or one that is given.

    :param directory: where the embedded server keeps its data
    :param dsn: of a superuser, or None for the embedded server
    :returns: a DSN, of any database
    """
    if dsn is not None:
        yield dsn
        return
    embedded = Server(directory / "server")
    with embedded, psycopg.connect(embedded.dsn, autocommit=True) as connection:
        # A bulk load would be one checkpoint after another; 16 writers of each peer are connected.
        connection.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
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
    """Have the server log no images of full pages.

    :param dsn: of a superuser
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET full_page_writes")
            connection.execute("SELECT pg_reload_conf()")


def filled(dsn: str, jobs: int) -> str:
    """Return the DSN of a store with generated jobs, made where it is not there yet.

    :param dsn: of any database of the server
    :param jobs: how many jobs
    """
    name, unfinished = f"butido_bench_{jobs}", f"butido_bench_{jobs}_unfinished"
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
