"""The command line `butido-store`: migrations, the embedded server, psql and a demonstration."""

import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import psycopg
from click.shell_completion import get_completion_class
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console
from rich.table import Table

from butido_store import _reports, job, release
from butido_store._schema import DEFAULT_SCHEMA
from butido_store._target import Target, refused
from butido_store._uuid7 import uuid7
from butido_store.embedded import Server, find_binaries
from butido_store.errors import EmbeddedServerError, StoreError
from butido_store.migrate import ZERO, Migrator

_PROGRAM = "butido-store"
_FOLLOW_EVERY = 0.25


class _Group(click.Group):
    """A group whose commands say what went wrong in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except StoreError as error:
            raise click.ClickException(str(error)) from error


class _Main(_Group):
    """The commands here and one for each report, which is made when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *_reports.names()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        return super().get_command(ctx, cmd_name) or _reports.command(cmd_name)


class _Chosen:
    """The database and schema that the options before the command name."""

    def __init__(self, dsn: str | None, schema: str) -> None:
        self.target = Target(dsn)
        self.schema = schema

    @contextmanager
    def migrator(self, lock_wait: float | None = None) -> Iterator[Migrator]:
        """Open a migrator on a connection of its own."""
        with self.target:
            try:
                connection = psycopg.connect(self.target.dsn, autocommit=True)
            except psycopg.Error as error:
                raise refused(error) from error
            with connection:
                yield Migrator(connection, schema=self.schema, lock_wait=lock_wait)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--dsn",
    envvar="BUTIDO_STORE_DSN",
    help="libpq connection string or URI. Without it libpq's environment (PGHOST, …) counts, and "
    "without that the embedded server.",
)
@click.option(
    "--schema",
    default=DEFAULT_SCHEMA,
    envvar="BUTIDO_STORE_SCHEMA",
    show_default=True,
    help="The schema that holds the store.",
)
@click.version_option(package_name="butido_store")
@click.pass_context
def main(ctx: click.Context, dsn: str | None, schema: str) -> None:
    """Keep and query the memory of a package build system."""
    ctx.obj = _Chosen(dsn, schema)


@main.group()
def migrate() -> None:
    """Bring the schema to this release, or back."""


@migrate.command("apply")
@click.option("--to", metavar="NAME", help="Stop after this migration.")
@click.option("--pre", is_flag=True, help="Stop before the first one of phase post.")
@click.option(
    "--lock-wait", type=float, metavar="SECONDS", help="How long to wait for another migrator."
)
@click.pass_obj
def apply(chosen: _Chosen, to: str | None, pre: bool, lock_wait: float | None) -> None:
    """Apply the migrations that are pending."""
    phase: Literal["pre"] | None = "pre" if pre else None
    with chosen.migrator(lock_wait) as migrator:
        applied = migrator.apply(to=to, phase=phase)
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@migrate.command("status")
@click.pass_obj
def status(chosen: _Chosen) -> None:
    """Show every migration and where it stands."""
    with chosen.migrator() as migrator:
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
@click.option(
    "--lock-wait", type=float, metavar="SECONDS", help="How long to wait for another migrator."
)
@click.pass_obj
def rollback(chosen: _Chosen, name: str, yes: bool, lock_wait: float | None) -> None:
    """Undo all migrations after NAME, or every one with `zero`."""
    if not yes:
        what = "every migration" if name == ZERO else f"all migrations after {name}"
        click.confirm(f"Undo {what} in schema {chosen.schema}? Records can be lost", abort=True)
    with chosen.migrator(lock_wait) as migrator:
        undone = migrator.rollback(to=name)
    click.echo("\n".join(f"undone {name}" for name in undone) or "nothing to undo")


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(chosen: _Chosen, arguments: tuple[str, ...]) -> None:
    """Open psql on the database with the search path set; ARGUMENTS are psql's."""
    with chosen.target as target:
        program = _psql(target)
        conninfo = conninfo_to_dict(target.dsn)
        options = conninfo.get("options") or os.environ.get("PGOPTIONS", "")
        conninfo["options"] = f"{options} -c search_path={_escaped(chosen.schema)}".strip()
        environment = dict(os.environ)
        if password := conninfo.pop("password", None):
            # Other users can read a command line, but not an environment.
            environment["PGPASSWORD"] = str(password)
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            # A script that goes on after an error would end with success.
            stop = ("-v", "ON_ERROR_STOP=1")
            command = [program, make_conninfo("", **conninfo), *stop, *arguments]
            code = subprocess.call(command, env=environment)  # noqa: S603 - psql, as asked for
        finally:
            signal.signal(signal.SIGINT, interrupt)
    sys.exit(code)


def _psql(target: Target) -> str:
    """Return the psql to use: the embedded server's for that one, else the installed one."""
    if target.server:
        return str(target.server.bindir / "psql")
    if installed := shutil.which("psql"):
        return installed
    return str(find_binaries() / "psql")


def _escaped(schema: str) -> str:
    """Return the schema's name as one word of libpq's `options`, quoted for a search path."""
    quoted = '"' + schema.replace('"', '""') + '"'
    return quoted.replace("\\", "\\\\").replace(" ", "\\ ")


@main.group()
def server() -> None:
    """Run the embedded PostgreSQL."""


def _embedded(chosen: _Chosen) -> Server:
    if chosen.target.server is None:
        raise EmbeddedServerError(
            "--dsn or libpq's environment names another server than the embedded one"
        )
    return chosen.target.server


@server.command("start")
@click.pass_obj
def start(chosen: _Chosen) -> None:
    """Start it, and leave it running until it is told to stop."""
    embedded = _embedded(chosen)
    embedded.start()
    click.echo(f"running; connect with {embedded.dsn}")


@server.command("stop")
@click.pass_obj
def stop(chosen: _Chosen) -> None:
    """Stop it."""
    embedded = _embedded(chosen)
    click.echo("stopped" if embedded.stop() else "not running")


@server.command("status")
@click.pass_obj
def server_status(chosen: _Chosen) -> None:
    """Tell whether it runs, and where; exit with 3 where it does not."""
    embedded = _embedded(chosen)
    found = embedded.status()
    click.echo(f"{'running' if found.running else 'stopped'} in {found.directory}")
    if found.running:
        click.echo(f"PostgreSQL {found.version}, process {found.pid}\n{found.dsn}")
    else:
        sys.exit(3)


@main.command("log-of")
@click.argument("job_prefix", metavar="JOB")
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
@click.pass_context
def log_of(context: click.Context, job_prefix: str, follow: bool) -> None:
    """Print the log of JOB as far as it came, or as it comes."""
    with _reports.opened(context) as store:
        uuid = _reports.resolve(store, job_prefix, "job")
        after, characters = None, 0
        while True:
            piece = store.run(job.log_after(uuid, after=after, characters=characters))
            sys.stdout.write(piece.text)
            sys.stdout.flush()
            if piece.state != "running" or not follow:
                break
            characters += len(piece.text)
            after = after if piece.seq is None else piece.seq
            time.sleep(_FOLLOW_EVERY)


def _user() -> str:
    return getpass.getuser()


@main.command("release")
@click.argument("store_name", metavar="STORE")
@click.option("--artifact", "-a", multiple=True, help="This artifact; more than one may be given.")
@click.option("--submit", "-S", help="All that the successful jobs of this submit made.")
@click.option("--actor", default=_user, show_default="the user", help="Who releases it.")
@click.pass_context
def release_(
    context: click.Context,
    store_name: str,
    artifact: tuple[str, ...],
    submit: str | None,
    actor: str,
) -> None:
    """Release artifacts, or all of a submit, to the release store STORE."""
    with _reports.opened(context) as store:
        released = store.run(
            release.create(
                uuid7(),
                store=store_name,
                timestamp=datetime.now(UTC),
                actor=actor,
                artifacts=[_reports.resolve(store, text, "artifact") for text in artifact] or None,
                submit=_reports.resolve(store, submit, "submit") if submit else None,
            )
        )
    click.echo(
        "\n".join(f"released {uuid}" for uuid in released) or "all of it was released before"
    )


@main.command("withdraw")
@click.argument("store_name", metavar="STORE")
@click.argument("artifact")
@click.option("--reason", required=True, help="Why it is taken back.")
@click.option("--actor", default=_user, show_default="the user", help="Who takes it back.")
@click.pass_context
def withdraw(
    context: click.Context, store_name: str, artifact: str, reason: str, actor: str
) -> None:
    """Take ARTIFACT back from the release store STORE; that it was there stays recorded."""
    with _reports.opened(context) as store:
        uuid = _reports.resolve(store, artifact, "artifact")
        store.run(
            release.withdraw(
                store=store_name,
                artifact=uuid,
                timestamp=datetime.now(UTC),
                actor=actor,
                reason=reason,
            )
        )
    click.echo(f"withdrawn {uuid}")


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def completion(shell: str) -> None:
    """Print what SHELL reads to complete this command: source <(butido-store completion bash)."""
    if found := get_completion_class(shell):
        click.echo(found(main, {}, _PROGRAM, "_BUTIDO_STORE_COMPLETE").source())


@main.command()
@click.argument("requirement", default="rich")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where sources and wheels are kept; by default beside the embedded server's data.",
)
@click.pass_obj
def demo(chosen: _Chosen, requirement: str, directory: Path | None) -> None:
    """Build REQUIREMENT and all that it needs from source, twice, and show what is remembered."""
    from butido_store._demo import run

    with chosen.migrator() as migrator:
        for name in migrator.apply():
            click.echo(f"applied migration {name}")
        run(chosen.target, chosen.schema, requirement, directory)
