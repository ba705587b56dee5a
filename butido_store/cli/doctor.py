"""The command `doctor`: whether all is well, for people and for monitoring."""

import re
import sys

import click

from butido_store.cli.admin import Command, Database, NotChecked
from butido_store.errors import InvalidInput, StoreError

_LIMIT = re.compile(r"(\w+)\.(\w+)=(\d{1,18})")


class _Limit(click.ParamType[tuple[str, str, int]]):
    """What one check holds a value against."""

    name = "check.limit=number"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, int]:
        match = _LIMIT.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is no limit: give transactions.seconds=60", param, ctx)
        return match[1], match[2], int(match[3])


@click.command(cls=Command)
@click.option("--only", multiple=True, metavar="NAME", help="This check; more may be given.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    type=_Limit(),
    help="Another limit than the default that the check's file in sql/doctor/ has.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json", "jsonl"]),
    default="table",
    show_default=True,
    help="How the findings are written.",
)
@click.pass_obj
def doctor(
    database: Database, only: tuple[str, ...], limits: list[tuple[str, str, int]], format_: str
) -> None:
    """Check whether all is well with the store and its server.

    Exit status: 0 all is well, 1 something is worth a look (warn), 2 somebody has to act (bad),
    3 something, or all, could not be seen (unknown).
    """
    from butido_store.admin import doctor
    from butido_store.cli import output
    from butido_store.cli.tables import Room, visible

    given: dict[str, dict[str, int]] = {}
    for name, limit, number in limits:
        given.setdefault(name, {})[limit] = number
    try:
        with database.store() as store:
            found = doctor.examine(store, only=only, limits=given)
    except InvalidInput:
        raise
    except StoreError as error:
        raise NotChecked(str(error)) from error
    # Advice is longer than a table has room for.
    columns = ["check", "verdict", "object", "value", "limit"] if format_ == "table" else None
    output.show(iter(found), doctor.Finding, format_, columns, Room.here())
    for one in found if columns else ():
        if one.advice and one.verdict != "ok":
            click.echo(visible(f"{one.check}, {one.object}: {one.advice}"))
    sys.exit(doctor.status(found))
