"""The command line `butido-store`: one command for each report, those of `admin`, and the rest."""

import errno
import getpass
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import click

from butido_store import job, log, release
from butido_store._check import uuid7
from butido_store._query import names, summary
from butido_store._secrets import KEY_FILE, PATTERNS_VARIABLE
from butido_store._target import DEFAULT_SCHEMA
from butido_store.cli import admin, drift
from butido_store.cli.admin import Command, Database, Group
from butido_store.cli.completion import uuids
from butido_store.cli.doctor import doctor
from butido_store.cli.retention import prune
from butido_store.store import Store

_PROGRAM = "butido-store"
_INTERRUPTED = 130  # as shells have it
# What writing to the standard output fails with: an error without a name, where a file has one.
_FULL = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)


class _Report(Command):
    """The command of a report, known by its file until somebody uses it.

    The functions and row types of all reports take a tenth of the time that the command line takes
    to start, so they wait until one is asked.
    """

    def __init__(self, name: str, question: str) -> None:
        super().__init__(name, help=summary(question))
        self._question = question

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options, those of the report first."""
        if self.callback is None:
            from butido_store.cli.reports import command

            self.params, self.callback = command(self._question)
        return super().get_params(ctx)


class _Main(Group):
    """The commands of this module, and one for each report."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the program, and end it with its exit code and never with a traceback.

        An interrupt is 130, and a reader that stops reading no failure.
        """
        _open_streams()
        if not sys.stdout:
            click.echo("Error: the standard output is closed", err=True)
            sys.exit(1)
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            # Without its standalone mode click gives the code of `--help`, and passes errors on.
            code = super().main(*args, **extra | {"standalone_mode": False}) or 0
            sys.stdout.flush()
        except SystemExit as end:
            code = end.code
        except click.Abort as end:
            # Click turns an interrupt into this, and a refusal at a prompt as well.
            interrupted = KeyboardInterrupt in (type(end.__cause__), type(end.__context__))
            code = _INTERRUPTED if interrupted else 1
            if not interrupted:
                click.echo("Aborted!", err=True)
        except click.ClickException as error:
            from butido_store.cli.tables import visible

            shown = _Caught()
            error.show(shown)
            click.echo(visible(shown.getvalue(), keep="\t\n"), err=True, nl=False)
            code = error.exit_code
        except BrokenPipeError:
            code = 0
        except OSError as error:
            where = "the output cannot be written" if error.errno in _FULL else _PROGRAM
            click.echo(f"Error: {error.filename or where}: {error.strerror or error}", err=True)
            code = 1
        try:
            sys.stdout.flush()
        except OSError:
            # Python would try once more at its end, and say so with a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(code)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options, and print the help."""
        with _reader_may_stop():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _reader_may_stop():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *_questions()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        if found := super().get_command(ctx, cmd_name):
            return found
        question = _questions().get(cmd_name)
        return _Report(cmd_name, question) if question else None


@cache
def _questions() -> dict[str, str]:
    """Return the names of the reports' queries by those of their commands."""
    return {name.rpartition("/")[2].replace("_", "-"): name for name in names("report")}


def _resolve(store: Store, text: str, field: str) -> UUID:
    """Return the uuid that a text is, or is the unique beginning of."""
    from butido_store.cli.reports import resolve

    return resolve(store, text, field)


class _Caught(StringIO):
    """What click prints, also what it leaves out where there is no terminal."""

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True


def _open_streams() -> None:
    """Open standard input and errors where they are closed.

    Else a connection has their number, and what is written as an error goes to the server.
    """
    for number in (0, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if not sys.stderr:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - to the end


@contextmanager
def _reader_may_stop() -> Iterator[None]:
    """Take a closed pipe for the end; click takes it for a failure."""
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(0) from error


@click.group(
    cls=_Main,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A variable that is a secret by its name, such as API_TOKEN, is asked for by its value "
    f"where {KEY_FILE} names the file that has the builders' key. {PATTERNS_VARIABLE} has the "
    "patterns of such names, if they are others than usual. Others can read a command line; psql "
    "asks for a secret by its digest.",
)
@click.option(
    "--dsn",
    envvar="BUTIDO_STORE_DSN",
    show_envvar=True,
    help="libpq connection string or URI. Without it libpq's environment (PGHOST, …) counts, and "
    "without that the embedded server. Others can read a command line: keep a password in "
    "~/.pgpass or PGPASSWORD.",
)
@click.option(
    "--schema",
    default=DEFAULT_SCHEMA,
    envvar="BUTIDO_STORE_SCHEMA",
    show_envvar=True,
    show_default=True,
    help="The schema that holds the store.",
)
@click.option(
    "--no-prepare",
    is_flag=True,
    envvar="BUTIDO_STORE_NO_PREPARE",
    show_envvar=True,
    help="Take the session for one that a pooler lends for a transaction, and prepare nothing. "
    "That is done unasked where a pooler shows; psql needs it, and the role's search_path, there.",
)
@click.version_option(package_name="butido_store")
@click.pass_context
def main(ctx: click.Context, dsn: str | None, schema: str, no_prepare: bool) -> None:
    """Keep and query the memory of a package build system."""
    # With SIGCHLD inherited as ignored, a psql or demonstration that failed would look successful.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctx.obj = Database(dsn, schema, no_prepare=no_prepare)


admin.migrate.add_command(drift.check)
for command in (admin.migrate, admin.psql, admin.server, doctor, prune):
    main.add_command(command)


@main.command("log-of")
@click.argument("job_prefix", metavar="JOB", shell_complete=uuids("job"))
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--raw", is_flag=True, help="On a terminal, too, as it is: with colours, for one.")
@click.pass_obj
def log_of(database: Database, job_prefix: str, follow: bool, raw: bool) -> None:
    """Print the log of JOB as far as it came, or as it comes.

    On a terminal, what would act on it is shown as \\x1b and the like.
    """
    from butido_store.cli.tables import visible

    as_it_is = raw or not sys.stdout.isatty()
    with database.store() as store:
        uuid = _resolve(store, job_prefix, "job")
        for text in log.follow(store, uuid, wait=follow):
            sys.stdout.write(text if as_it_is else visible(text, keep="\t\n"))
            sys.stdout.flush()


def _user() -> str:
    """Return the user's name; in a container there need be none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@main.command("release")
@click.argument("store_name", metavar="STORE")
@click.option(
    "--artifact",
    "-a",
    multiple=True,
    shell_complete=uuids("artifact"),
    help="This artifact; more than one may be given.",
)
@click.option(
    "--submit",
    "-S",
    shell_complete=uuids("submit"),
    help="All that successful jobs of this submit made, or jobs that it reused.",
)
@click.option("--actor", default=_user, show_default="the user", help="Who releases it.")
@click.pass_obj
def release_(
    database: Database,
    store_name: str,
    artifact: tuple[str, ...],
    submit: str | None,
    actor: str,
) -> None:
    """Release artifacts, or all that a submit delivered, to the release store STORE."""
    if bool(artifact) == bool(submit):
        raise click.UsageError("either --artifact or --submit says what is released")
    with database.store() as store:
        released = store.run(
            release.create(
                uuid7(),
                store=store_name,
                timestamp=datetime.now(UTC),
                actor=actor,
                artifacts=[_resolve(store, text, "artifact") for text in artifact] or None,
                submit=_resolve(store, submit, "submit") if submit else None,
            )
        )
    click.echo(
        "\n".join(f"released {uuid}" for uuid in released) or "all of it was released before"
    )


@main.command("withdraw")
@click.argument("store_name", metavar="STORE")
@click.argument("artifact", shell_complete=uuids("artifact"))
@click.option("--reason", required=True, help="Why it is taken back.")
@click.option("--actor", default=_user, show_default="the user", help="Who takes it back.")
@click.pass_obj
def withdraw(database: Database, store_name: str, artifact: str, reason: str, actor: str) -> None:
    """Take ARTIFACT back from the release store STORE; that it was there stays recorded."""
    with database.store() as store:
        uuid = _resolve(store, artifact, "artifact")
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


@main.command("refresh-failures")
@click.option(
    "--batch",
    type=click.IntRange(1, 2**63 - 1),
    default=1000,
    show_default=True,
    help="Jobs that one transaction writes.",
)
@click.pass_obj
def refresh_failures(database: Database, batch: int) -> None:
    """Write the failures anew that an older rule gave, from logs that are still there.

    For after an upgrade whose notes say that the rule is another one. It may be broken off.
    """
    count, last = 0, None
    with database.store() as store:
        while done := store.run(job.refresh_failures(before=last, limit=batch)):
            count, last = count + len(done), done[-1]
    click.echo(f"{count} failures written anew")


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def completion(shell: str) -> None:
    """Print what SHELL reads to complete commands, uuids and package names.

    \b
    bash, zsh:  source <(butido-store completion bash)
    fish:       butido-store completion fish | source
    """
    from click.shell_completion import get_completion_class

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
def demo(database: Database, requirement: str, directory: Path | None) -> None:
    """Build REQUIREMENT and its needs from source, ask for it again, and show what was reused."""
    from butido_store.cli.demo import check_extra, run

    check_extra()
    with database.migrator() as migrator:
        for name in migrator.apply():
            click.echo(f"applied migration {name}")
        run(database.target, database.schema, requirement, directory)
