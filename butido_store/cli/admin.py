"""Commands for whoever runs the database: migrations, psql and the embedded server."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Literal

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from butido_store._secrets import Secrets
from butido_store._target import Target, refused
from butido_store.errors import (
    ConnectionFailed,
    EmbeddedServerError,
    InvalidInput,
    NotFound,
    StoreError,
)
from butido_store.store import Store

# What only some commands need is imported by them: every command waits for what stands here.
if TYPE_CHECKING:
    from butido_store.admin.migrate import Migrator
    from butido_store.embedded import Server

# What an error says first: the fields that it is about.
_FIELD = re.compile(r"(.*?)(\bis\b|\bhas\b|\bmust\b|[:'\[]|\Z)(.*)", re.DOTALL)
# Secrets that libpq does not mark as such.
_SECRETS = {"scram_client_key", "scram_server_key"}
_SERVICE = "butido_store"
# What the server ends a word of `options` at, and what quotes it.
_SEPARATOR = re.compile(r"[\\ \t\n\v\f\r]")


class _Texts(click.Command):
    """Refuses an argument, or a variable, that is not UTF-8: the database's texts are.

    A file may have any name, and psql gets its arguments as they are.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        rest = super().parse_args(ctx, args)
        for parameter in () if ctx.resilient_parsing else self.get_params(ctx):
            if isinstance(parameter.type, click.types.StringParamType):
                given = ctx.params.get(parameter.name or "")
                for text in given if isinstance(given, tuple) else (given,):
                    if isinstance(text, str) and not text.isascii():
                        try:
                            text.encode()
                        except UnicodeEncodeError:
                            raise click.BadParameter("it is not UTF-8", ctx, parameter) from None
        return rest


class NotChecked(click.ClickException):
    """What was to be checked could not be seen: to monitoring that is unknown, and no warning."""

    exit_code = 3


class Command(_Texts):
    """A command that tells what it cannot take, or does not find, by the option's name.

    The former is a usage error.
    """

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            raise click.UsageError(self._by_options(ctx, str(error)), ctx) from error
        except NotFound as error:
            raise NotFound(self._by_options(ctx, str(error))) from error

    def _by_options(self, ctx: click.Context, message: str) -> str:
        """Name the options in place of the fields that an error begins with."""
        head, end, tail = _FIELD.match(message).groups()  # type: ignore[union-attr]
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and parameter.name:
                name = max(parameter.opts, key=len)
                head = re.sub(rf"\b{parameter.name}\b", name, head)
        return f"{head}{end}{tail}"


class Group(_Texts, click.Group):
    """A group whose commands say what went wrong in one line, without a traceback."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except StoreError as error:
            raise click.ClickException(str(error)) from error


def say(line: str, *, err: bool = False) -> None:
    """Print a line with names from the database, what would act on a terminal as escapes."""
    from butido_store.cli.tables import visible

    click.echo(visible(line), err=err)


class Database:
    """The database and schema that the options before the command name."""

    def __init__(self, dsn: str | None, schema: str, *, no_prepare: bool = False) -> None:
        self._dsn = dsn
        self.schema = schema
        self.no_prepare = no_prepare

    @cached_property
    def target(self) -> Target:
        """The database; not looked for before a command uses it, so that --help needs none."""
        return Target(self._dsn)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        named: dict[str, Any] = {"schema": self.schema, "secrets": Secrets.from_environment()}
        if self.no_prepare:
            named["prepare_threshold"] = None
        with self.target as target, Store.connect(target.dsn, **named) as store:
            yield store

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Open a connection of its own, in autocommit mode."""
        with self.target:
            try:
                connection = psycopg.connect(self.target.dsn, autocommit=True)
            except psycopg.Error as error:
                raise refused(error) from error
            with connection:
                yield connection

    @contextmanager
    def migrator(
        self, *, lock_wait: float | None = None, retry_for: float = 0, role: str | None = None
    ) -> Iterator["Migrator"]:
        """Open a migrator on a connection of its own."""
        from butido_store.admin.migrate import Migrator

        with self.connection() as connection:
            yield Migrator(
                connection,
                schema=self.schema,
                lock_wait=lock_wait,
                retry_for=retry_for,
                tell=partial(say, err=True),
                role=role,
            )


_lock_wait = click.option(
    "--lock-wait", type=float, metavar="SECONDS", help="How long to wait for another migrator."
)
_retry_for = click.option(
    "--retry-for",
    type=float,
    metavar="SECONDS",
    default=300,
    show_default=True,
    help="How long to try for locks that others hold.",
)
_role = click.option(
    "--role", metavar="OWNER", help="Act as this role, so that all that is created is its own."
)


@click.group(cls=Group)
def migrate() -> None:
    """Bring the schema to this release, or back."""


@migrate.command("apply")
@click.option("--to", metavar="NAME", help="Stop after this migration.")
@click.option("--pre", is_flag=True, help="Stop before the first one of phase post.")
@_role
@click.option("--all-schemas", is_flag=True, help="In each schema that holds a store.")
@_lock_wait
@_retry_for
@click.pass_obj
def apply(
    database: Database,
    to: str | None,
    pre: bool,
    role: str | None,
    all_schemas: bool,
    lock_wait: float | None,
    retry_for: float,
) -> None:
    """Apply the migrations that are pending."""
    phase: Literal["pre"] | None = "pre" if pre else None

    def applied() -> list[str]:
        with database.migrator(lock_wait=lock_wait, retry_for=retry_for, role=role) as migrator:
            names = migrator.apply(to=to, phase=phase)
        return [f"applied {name}" for name in names] or ["nothing to apply"]

    if not all_schemas:
        click.echo("\n".join(applied()))
        return
    with database.target:
        with database.migrator() as migrator:
            schemas = migrator.stores()
        if not schemas:
            raise click.ClickException("no schema of this database holds a store")
        failed = 0
        for schema in schemas:
            database.schema = schema
            try:
                lines = applied()
            except StoreError as error:
                # The others are still to be brought to this release.
                say(f"{schema}: Error: {error}", err=True)
                failed += 1
            else:
                for line in lines:
                    say(f"{schema}: {line}")
    if failed:
        raise click.ClickException(f"{failed} of {len(schemas)} schemas failed")


@migrate.command("plan")
@_role
@click.pass_obj
def plan(database: Database, role: str | None) -> None:
    """Tell what the pending migrations will do; exit with 1 where a header is wrong.

    Each is tried out on an empty store, in a schema that is dropped again.
    """
    from butido_store.admin.plan import plan

    with database.migrator(role=role) as migrator:
        planned = plan(migrator)
    click.echo("\n\n".join(map(str, planned)) or "nothing to apply")
    if any(one.lies for one in planned):
        sys.exit(1)


@migrate.command("status")
@click.pass_obj
def status(database: Database) -> None:
    """Show every migration and where it stands."""
    from butido_store.cli.tables import print_table

    with database.migrator() as migrator:
        found = migrator.status()
    rows = [
        [one.id, one.phase, one.state, one.applied_at, str(one.duration or "")] for one in found
    ]
    print_table(["migration", "phase", "state", "applied", "took"], rows)


@migrate.command("sql")
@click.option("--from", "start", metavar="NAME", help="The last one applied; by default none is.")
@click.option("--to", metavar="NAME", help="The last one to write; by default all.")
@click.pass_obj
def sql(database: Database, start: str | None, to: str | None) -> None:
    """Write the migrations as one script, to review and to apply with psql."""
    from butido_store.admin import script

    click.echo(script.write(schema=database.schema, start=start, to=to), nl=False)


@migrate.command("mark")
@click.argument("name", required=False)
@_role
@_lock_wait
@click.pass_obj
def mark(database: Database, name: str | None, role: str | None, lock_wait: float | None) -> None:
    """Record all migrations up to NAME as applied, where the schema is what they make.

    That is for a schema that was restored without its records, or made by hand. Without NAME it is
    all of this release.
    """
    from butido_store.admin import adopt

    with database.migrator(lock_wait=lock_wait, role=role) as migrator:
        marked = adopt.mark(migrator, to=name)
    click.echo("\n".join(f"marked {name}" for name in marked) or "nothing to mark")


@migrate.command("rollback")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--lose-data", is_flag=True, help="Also if records are lost with it.")
@_role
@_lock_wait
@_retry_for
@click.pass_obj
def rollback(
    database: Database,
    name: str,
    yes: bool,
    lose_data: bool,
    role: str | None,
    lock_wait: float | None,
    retry_for: float,
) -> None:
    """Undo all migrations after NAME, or every one with `zero`."""
    with database.migrator(lock_wait=lock_wait, retry_for=retry_for, role=role) as migrator:
        plan = migrator.rollback_plan(to=name)
        # What would be refused is not asked.
        if plan.undone and not yes and (lose_data or not plan.lost):
            click.confirm(f"Undo {plan} {'which are lost' if plan.lost else 'now'}?", abort=True)
        undone = migrator.rollback(to=name, lose_data=lose_data)
    click.echo("\n".join(f"undone {name}" for name in undone) or "nothing to undo")


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(database: Database, arguments: tuple[str, ...]) -> None:
    """Open psql on the database with the search path set; ARGUMENTS are psql's."""
    with database.target as target:
        conninfo = conninfo_to_dict(target.dsn)
        if not database.no_prepare:  # a pooler refuses options, or lends them to others
            # A service's options are found by libpq alone, and those of a connection replace them.
            options = conninfo.get("options", _inherited_options(conninfo.get("service")))
            conninfo["options"] = f"{options} -c search_path={_escaped(database.schema)}".strip()
        secrets = _without_secrets(conninfo)
        # Else a script goes on after an error, and ends with success.
        stop = ("-v", "ON_ERROR_STOP=1")
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with _told(secrets, conninfo) as (environment, descriptors):
                command = [_psql(target), make_conninfo("", **conninfo), *stop, *arguments]
                code = subprocess.call(  # noqa: S603 - psql, as asked for
                    command, env={**os.environ, **environment}, pass_fds=descriptors
                )
        finally:
            signal.signal(signal.SIGINT, interrupt)
    # Ended by a signal, it has the code that a shell gives.
    sys.exit(code if code >= 0 else 128 - code)


def _inherited_options(service: Any) -> str:
    """Return the options that a connection without its own takes from the service or PGOPTIONS.

    :param service: the service that the connection string names
    """
    before = os.environ.get("PGSERVICE")
    try:
        if service:
            os.environ["PGSERVICE"] = service
        defaults = {option.keyword: option.val for option in Conninfo.get_defaults()}
    finally:
        if service:
            os.environ.pop("PGSERVICE")
        if before is not None:
            os.environ["PGSERVICE"] = before
    return (defaults[b"options"] or b"").decode()


def _without_secrets(conninfo: dict[str, Any]) -> dict[str, str]:
    """Take the secrets out of a connection string: other users can read a command line."""
    marked = {
        option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar == b"*"
    }
    found = {name: conninfo.pop(name, None) for name in sorted(marked | _SECRETS)}
    return {name: str(value) for name, value in found.items() if value}


@contextmanager
def _told(
    secrets: dict[str, str], conninfo: dict[str, Any]
) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Have psql find the secrets: a password in its environment, others in a service file.

    libpq has no variable for those others. The file has no name, and lasts until psql ends.

    :param secrets: the secrets by libpq's names
    :param conninfo: what else psql connects with; the service is added where there is one
    :returns: variables for psql, and descriptors that it inherits
    :raises ConnectionFailed: a service is named already, whose file is the place for them
    """
    environment = {}
    if password := secrets.pop("password", None):
        environment["PGPASSWORD"] = password
    if not secrets:
        yield environment, []
        return
    names = ", ".join(secrets)
    if conninfo.get("service") or os.environ.get("PGSERVICE"):
        raise ConnectionFailed(f"psql reads one service: write {names} into its file")
    lines = [f"{name}={value}" for name, value in secrets.items()]
    if any(line.splitlines() != [line.rstrip()] for line in lines):
        raise ConnectionFailed(f"psql cannot be told a {names} with a line break or a last blank")
    with TemporaryFile("w+", encoding="utf-8") as file:
        file.write("\n".join([f"[{_SERVICE}]", *lines, ""]))
        file.flush()
        conninfo["service"] = _SERVICE
        environment["PGSERVICEFILE"] = f"/dev/fd/{file.fileno()}"
        yield environment, [file.fileno()]


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
    return _SEPARATOR.sub(r"\\\g<0>", quoted)


@click.group(cls=Group)
def server() -> None:
    """Run the embedded PostgreSQL."""


def _embedded(database: Database) -> "Server":
    """Return the embedded server, if its database is the one that is meant."""
    if database.target.server is None:
        raise EmbeddedServerError(
            "--dsn or libpq's environment names another server than the embedded one; leave it out"
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
        version = f"PostgreSQL {found.version}" if found.version else "it takes no connection yet"
        process = f", process {found.pid}" if found.pid else ""
        click.echo(f"{version}{process}\n{found.dsn}")
    else:
        sys.exit(3)
