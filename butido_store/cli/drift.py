"""`migrate check`: is the schema what its migrations make?"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from butido_store.cli.admin import Command, Database, NotChecked
from butido_store.errors import StoreError

if TYPE_CHECKING:
    from butido_store.admin.drift import Check

_DIFFERS = 1


@click.command("check", cls=Command)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["sql", "json"]),
    default="sql",
    help="A script for psql that mends it, to be read first, or a document.",
)
@click.pass_obj
def check(database: Database, format_: str) -> None:
    """Tell where the schema is not what its migrations make.

    Exits with 0 if nothing differs, with 1 if something does, and with 3 if it cannot be told.
    """
    from butido_store.admin import drift
    from butido_store.cli.output import as_json
    from butido_store.cli.tables import visible

    try:
        with database.connection() as connection:
            found = drift.check(connection, schema=database.schema)
    except StoreError as error:
        raise NotChecked(str(error)) from error
    if format_ == "json":
        click.echo(as_json({"same": not found.differences, **asdict(found)}, indent=2))
    else:
        click.echo(visible("\n".join(_script(found)), keep="\n"))
    sys.exit(_DIFFERS if found.differences else 0)


def _script(found: "Check") -> Iterator[str]:
    """Yield the lines of a script: what is not to be run unread is a comment."""
    if found.pending:
        yield f"-- pending, which is no difference: {', '.join(found.pending)}"
    if found.compared_with != "this server":
        yield f"-- nothing may be created here: compared with {found.compared_with}"
    if not found.differences:
        yield f"-- schema {found.schema} is what its migrations make"
    for difference in found.differences:
        yield f"-- {difference}"
        if not difference.statements:
            yield "--   no statement by itself mends this"
        for statement in difference.statements:
            if difference.loses_data:
                yield "\n".join(f"--   loses data: {line}" for line in f"{statement};".split("\n"))
            else:
                yield f"{statement};"
