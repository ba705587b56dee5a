"""Commands of `butido-store` made of the report files: a parameter is an option."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import click

from butido_store import report
from butido_store._query import Query, query
from butido_store._statement import read
from butido_store.cli import output
from butido_store.errors import InvalidInput, NotFound
from butido_store.store import Store

_PREFIX = "report/"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_HEX = re.compile(r"[0-9a-f]{1,32}")
_KINDS = ("job", "submit", "artifact")


class _When(click.ParamType[datetime]):
    """A time: RFC 3339, a day, or how long ago."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            if ago := _DURATION.fullmatch(value):
                return datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            if len(value) == len("YYYY-MM-DD"):
                day = date.fromisoformat(value)
                return datetime(day.year, day.month, day.day).astimezone()
            time = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            time = datetime.min
        if time.utcoffset() is None:
            self.fail(
                f"{value!r} is not a time: give 2026-11-23T12:00:00Z, 2026-11-23 or, "
                "for that long ago, 6h or 2d",
                param,
                ctx,
            )
        return time


class _Sha256(click.ParamType[bytes]):
    """A digest in hexadecimal."""

    name = "sha256"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        try:
            digest = bytes.fromhex(value)
        except ValueError:
            digest = b""
        if len(digest) != 32:
            self.fail(f"{value!r} is not a SHA-256: that has 64 hexadecimal digits", param, ctx)
        return digest


class _Script(click.ParamType[str]):
    """A script, or @ and the file that holds it."""

    name = "text|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.startswith("@"):
            return str(value)
        try:
            return Path(value[1:]).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"{value[1:]} cannot be read: {error}", param, ctx)


_TYPES: dict[str, click.ParamType[Any] | type] = {
    "bigint": click.IntRange(min=0),
    "bytea": _Sha256(),
    "timestamptz": _When(),
}


def names() -> list[str]:
    """Return the names of the commands."""
    return [name.replace("_", "-") for name in report.ROWS]


def resolve(store: Store, text: str, field: str) -> UUID:
    """Return the uuid that a text is, or is the unique beginning of.

    :param store: where to look
    :param text: a uuid or its first digits, with or without hyphens
    :param field: the parameter; `job`, `submit` or `artifact` at its end says what it is
    :raises InvalidInput: it is neither, or several begin so
    :raises NotFound: nothing begins so
    """
    digits = text.replace("-", "").lower()
    if not _HEX.fullmatch(digits):
        raise InvalidInput(f"{field}: {text!r} is not a uuid, nor the beginning of one")
    if len(digits) == 32:
        return UUID(digits)
    kind = next((kind for kind in _KINDS if field.endswith(kind)), None)
    ask = {
        "first": UUID(digits.ljust(32, "0")),
        "last": UUID(digits.ljust(32, "f")),
        "kind": kind,
    }
    found = store.run(read("store/resolve", ask, lambda rows: [cast(UUID, r[1]) for r in rows]))
    if not found:
        raise NotFound(f"{field}: there is no {kind or 'record'} whose uuid begins with {text}")
    if len(found) > 1:
        some = ", ".join(str(uuid) for uuid in found[:3])
        raise InvalidInput(f"{field}: more than one uuid begins with {text}: {some}")
    return found[0]


@contextmanager
def opened(context: click.Context) -> Iterator[Store]:
    """Open the store that the options before the command name."""
    with (
        context.obj.target as target,
        Store.connect(target.dsn, schema=context.obj.schema) as store,
    ):
        yield store


def command(name: str) -> click.Command | None:
    """Make the command of a report.

    :param name: its name, with hyphens
    :returns: the command, or None if there is no such report
    """
    row_type = report.ROWS.get(name.replace("-", "_"))
    if row_type is None:
        return None
    file = query(_PREFIX + name.replace("-", "_"))
    formats = output.formats(row_type)

    @click.pass_context
    def run(context: click.Context, /, format_: str, **given: Any) -> None:
        with opened(context) as store:
            parameters = {
                field: value
                for field, value in _values(file, given)
                if field in file.required or value not in (None, False, [])
            }
            for field, value in parameters.items():
                if file.types[field] == "uuid":
                    parameters[field] = resolve(store, value, field)
            with closing(store.stream(report.ask(row_type, **parameters))) as rows:
                some = _some(rows, file, parameters)
                if row_type is report.Miss and format_ == "table":
                    some = (replace(r, script=r.script_diff(given["script"])) for r in some)
                output.show(some, row_type, format_)

    options = [_parameter(file, field) for field in _ordered(file)]
    options.append(
        click.Option(
            ["--format", "format_"],
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="How the rows are written.",
        )
    )
    return click.Command(name, callback=run, params=options, help=file.summary)


def _ordered(file: Query) -> list[str]:
    """Return the parameters as the header has them, then those that it does not explain."""
    return [*file.notes, *(field for field in file.types if field not in file.notes)]


def _argument(file: Query) -> str | None:
    """Return the parameter that needs no option before it: the first one that has to be given."""
    return next((field for field in _ordered(file) if field in file.required), None)


def _parameter(file: Query, field: str) -> click.Parameter:
    note, kind = file.notes.get(field), file.types[field]
    option_type = _TYPES.get(kind, str)
    if note and note.choices:
        option_type = click.Choice(note.choices)
    elif field == "script" and kind == "text":
        option_type = _Script()
    if field == _argument(file):
        return click.Argument([field], type=option_type)
    flags = [f"--{field.replace('_', '-')}", field]
    if note and note.letter:
        flags.insert(0, f"-{note.letter}")
    text = note.text if note else None
    if kind == "boolean":
        return click.Option(flags, is_flag=True, help=text)
    if field == "limit":
        return click.Option(
            flags, type=option_type, default=50, show_default=True, help=f"{text}; 0 for all."
        )
    return click.Option(
        flags,
        type=option_type,
        multiple=kind == "text[]",
        required=field in file.required and kind != "text[]",
        help=text,
    )


def _values(file: Query, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what click found as the report takes it."""
    for field, value in given.items():
        if file.types[field] == "text[]":
            yield field, list(value)
        elif field == "limit":
            yield field, value or None
        else:
            yield field, value


def _some(rows: Iterator[Any], file: Query, parameters: dict[str, Any]) -> Iterator[Any]:
    """Pass rows on; refuse to say nothing about one record, since every record has something."""
    first = next(rows, None)
    if first is not None:
        yield first
        yield from rows
        return
    field = _argument(file)
    if field and file.types[field] == "uuid":
        raise NotFound(f"there is no {field} {parameters[field]}")
