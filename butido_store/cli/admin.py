"""Commands for whoever runs the database: migrations, psql and the embedded server."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from butido_store._target import Target, refused
from butido_store.errors import EmbeddedServerError, StoreError
from butido_store.store import Store

# What only some commands need is imported by them: every command waits for what stands here.
if TYPE_CHECKING:
    from butido_store.admin.migrate import Migrator
    from butido_store.embedded import Server


class Group(click.Group):
    """A group whose commands say what went wrong in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except StoreError as error:
            raise click.ClickException(str(error)) from error


class Database:
    """The database and schema that the options before the command name."""

    def __init__(self, dsn: str | None, schema: str) -> None:
        self._dsn = dsn
        self.schema = schema

    @cached_property
    def target(self) -> Target:
        """The database; not looked for before a command uses it, so that --help needs none."""
        return Target(self._dsn)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        with self.target as target, Store.connect(target.dsn, schema=self.schema) as store:
            yield store

    @contextmanager
    def migrator(self, lock_wait: float | None = None) -> Iterator["Migrator"]:
        """Open a migrator on a connection of its own."""
        from butido_store.admin.migrate import Migrator

        with self.target:
            try:
                connection = psycopg.connect(self.target.dsn, autocommit=True)
            except psycopg.Error as error:
                raise refused(error) from error
            with connection:
                yield Migrator(connection, schema=self.schema, lock_wait=lock_wait)


_lock_wait = click.option(
    "--lock-wait", type=float, metavar="SECONDS", help="How long to wait for another migrator."
)


@click.group(cls=Group)
def migrate() -> None:
    """Bring the schema to this release, or back."""


@migrate.command("apply")
@click.option("--to", metavar="NAME", help="Stop after this migration.")
@click.option("--pre", is_flag=True, help="Stop before the first one of phase post.")
@_lock_wait
@click.pass_obj
def apply(database: Database, to: str | None, pre: bool, lock_wait: float | None) -> None:
    """Apply the migrations that are pending."""
    phase: Literal["pre"] | None = "pre" if pre else None
    with database.migrator(lock_wait) as migrator:
        applied = migrator.apply(to=to, phase=phase)
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@migrate.command("status")
@click.pass_obj
def status(database: Database) -> None:
    """Show every migration and where it stands."""
    from rich.console import Console
    from rich.table import Table

    with database.migrator() as migrator:
        found = migrator.status()
    table = Table("migration", "phase", "state", "applied", "took")
    for entry in found:
        table.add_row(
            entry.id,
            entry.phase,
            entry.state,
            f"{entry.applied_at:%Y-%m-%d %H:%M:%S %Z}" if entry.applied_at else "",
            str(entry.duration or ""),
        )
    Console().print(table)


@migrate.command("rollback")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_lock_wait
@click.pass_obj
def rollback(database: Database, name: str, yes: bool, lock_wait: float | None) -> None:
    """Undo all migrations after NAME, or every one with `zero`."""
    if not yes:
        what = "every migration" if name == "zero" else f"all migrations after {name}"
        click.confirm(f"Undo {what} in schema {database.schema}? Records can be lost", abort=True)
    with database.migrator(lock_wait) as migrator:
        undone = migrator.rollback(to=name)
    click.echo("\n".join(f"undone {name}" for name in undone) or "nothing to undo")


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(database: Database, arguments: tuple[str, ...]) -> None:
    """Open psql on the database with the search path set; ARGUMENTS are psql's."""
    with database.target as target:
        program = _psql(target)
        conninfo = conninfo_to_dict(target.dsn)
        options = conninfo.get("options") or os.environ.get("PGOPTIONS", "")
        conninfo["options"] = f"{options} -c search_path={_escaped(database.schema)}".strip()
        environment = dict(os.environ)
        if password := conninfo.pop("password", None):
            # Other users can read a command line, but not an environment.
            environment["PGPASSWORD"] = str(password)
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            # Else a script goes on after an error, and ends with success.
            stop = ("-v", "ON_ERROR_STOP=1")
            command = [program, make_conninfo("", **conninfo), *stop, *arguments]
            code = subprocess.call(command, env=environment)  # noqa: S603 - psql, as asked for
        finally:
            signal.signal(signal.SIGINT, interrupt)
    sys.exit(code)


def _psql(target: Target) -> str:
    """Return the psql to use: the embedded server's where it has one, else the installed one."""
    if target.server and (target.server.bindir / "psql").is_file():
        return str(target.server.bindir / "psql")
    if installed := shutil.which("psql"):
        return installed
    from butido_store.embedded import find_binaries

    return str(find_binaries() / "psql")


def _escaped(schema: str) -> str:
    """Return the schema's name as one word of libpq's `options`, quoted for a search path."""
    quoted = '"' + schema.replace('"', '""') + '"'
    return quoted.replace("\\", "\\\\").replace(" ", "\\ ")


@click.group(cls=Group)
def server() -> None:
    """Run the embedded PostgreSQL."""


def _embedded(database: Database) -> "Server":
    """Return the embedded server, if its database is the one that is meant."""
    if database.target.server is None:
        raise EmbeddedServerError(
            "--dsn or libpq's environment names another server than the embedded one"
        )
    return database.target.server


@server.command("start")
@click.pass_obj
def start(database: Database) -> None:
    """Start it, and leave it running until it is told to stop."""
    embedded = _embedded(database)
    embedded.start()
    click.echo(f"running; connect with {embedded.dsn}")


@server.command("stop")
@click.pass_obj
def stop(database: Database) -> None:
    """Stop it."""
    embedded = _embedded(database)
    click.echo("stopped" if embedded.stop() else "not running")


@server.command("status")
@click.pass_obj
def server_status(database: Database) -> None:
    """Tell whether it runs, and where; exit with 3 where it does not."""
    embedded = _embedded(database)
    found = embedded.status()
    click.echo(f"{'running' if found.running else 'stopped'} in {found.directory}")
    if found.running:
        click.echo(f"PostgreSQL {found.version}, process {found.pid}\n{found.dsn}")
    else:
        sys.exit(3)
