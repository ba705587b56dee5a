"""A command of `butido-store` for each function of `report`, an option for each parameter.

The options' letters and help are those in the header of the report's file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from functools import partial
from inspect import Parameter, signature
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_args
from uuid import UUID

import click

from butido_store import Statement, report
from butido_store._query import Query, query
from butido_store._statement import read
from butido_store.admin import doctor as checked
from butido_store.cli import output
from butido_store.cli.admin import Database
from butido_store.cli.completion import Completer, packages, uuids
from butido_store.cli.tables import Room
from butido_store.errors import InvalidInput, NotFound
from butido_store.job import State
from butido_store.store import Store

_Report = Callable[..., Statement[list[Any]]]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_HEX = re.compile(r"[0-9a-f]{1,32}")
# A line with a backslash before it has the path's line breaks and backslashes as escapes.
_SHA256SUM = re.compile(
    r"(?:(?P<escaped>\\)(?=(?:[^\\]|\\[\\nr])+\Z))?"
    r"(?P<digest>[0-9a-f]{64}) [ *](?P<path>.+)"
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"\\": "\\", "n": "\n", "r": "\r"}
# A pager that is left open must not hold up a migration for longer.
_IDLE_SECONDS = 600.0
# The first eight digits of a uuid of version 7 are a minute, about.
_SHORTEST = 8
_KINDS = ("job", "submit", "artifact")
# Which records a report is about, if not all of them.
_ONLY: Mapping[type, str] = {report.Slsa: " that a job made, with content that is known"}
_PACKAGES = ("package", "for_pkg", "with_pkg")


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
    """A digest in hexadecimal, with the name of its algorithm before it as registries write it."""

    name = "sha256"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        try:
            digest = bytes.fromhex(value.removeprefix("sha256:"))
        except ValueError:
            digest = b""
        if len(digest) != 32:
            self.fail(f"{value!r} is not a SHA-256: that has 64 hexadecimal digits", param, ctx)
        return digest


def read_text(
    name: str, kind: click.ParamType[Any], param: click.Parameter | None, ctx: click.Context | None
) -> str:
    """Return what a file holds, with the line breaks that it has.

    :param name: of the file
    :param kind: whose value it is
    """
    try:
        return Path(name).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        kind.fail(f"{name} cannot be read: {error}", param, ctx)


class _Script(click.ParamType[str]):
    """A script, or @ and the file that holds it."""

    name = "text|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.startswith("@"):
            return str(value)
        return read_text(value[1:], self, param, ctx)


class _Files(click.ParamType[list[str]]):
    """Files as sha256sum prints them, a line each, or @ and the file that it wrote."""

    name = "line|@file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        where, text = "", value
        if value.startswith("@"):
            where, text = f"{value[1:]}, ", read_text(value[1:], self, param, ctx)
        lines = text.removesuffix("\n").split("\n") if text else []
        found = []
        for number, line in enumerate(lines, 1):
            match = _SHA256SUM.fullmatch(line)
            if match is None or line.endswith("\r"):
                self.fail(
                    f"{where}line {number}: {line!r} is not what sha256sum prints: 64 hexadecimal "
                    "digits in lower case, two spaces or a space and *, a path",
                    param,
                    ctx,
                )
            path = match["path"]
            if match["escaped"]:
                path = _ESCAPE.sub(lambda escape: _ESCAPED[escape[1]], path)
            found.append(f"{match['digest']}  {path}")
        return found


class _Columns(click.ParamType[list[str]]):
    """Some of a report's columns, with commas between them."""

    name = "columns"

    def __init__(self, known: list[str]) -> None:
        self.known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is not one of {', '.join(self.known)}", param, ctx)
        return [*dict.fromkeys(names)]


# What click has to know of an option, by the annotation of the parameter.
_NEEDED: dict[Any, dict[str, Any]] = {
    UUID: {},
    State: {"type": click.Choice(get_args(State))},
    report.Period: {"type": click.Choice(get_args(report.Period))},
    report.Texts: {"multiple": True},
    report.Variable: {},
    report.Uri: {},
    report.Variables: {"multiple": True},
    report.Labels: {"multiple": True},
    report.Files: {"multiple": True, "type": _Files()},
    bool: {"is_flag": True},
    bytes: {"type": _Sha256()},
    datetime: {"type": _When()},
    int: {"type": click.IntRange(min=0)},
    str: {},
}
_OPTIONS = _NEEDED | {kind | None: known for kind, known in _NEEDED.items()}


def resolve(store: Store, text: str, field: str) -> UUID:
    """Return the uuid that a text is, or is the unique beginning of.

    :param store: where to look
    :param text: a uuid or its first digits, with or without hyphens
    :param field: the parameter; `job`, `submit` or `artifact` at its end says what it is
    :returns: the uuid; given in full, it need not be in the store
    :raises InvalidInput: it is neither, or several uuids begin so
    :raises NotFound: no uuid begins so
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


def unique_lengths(store: Store, uuids: Iterable[UUID]) -> Mapping[UUID, int]:
    """Return how many characters of each uuid tell it from all others, at least eight.

    :param store: where to look
    :param uuids: the uuids; they need not be in the store
    """

    def length(uuid: UUID, neighbour: UUID | None) -> int:
        both = zip(str(uuid), str(neighbour or ""), strict=False)
        return 1 + next((place for place, (a, b) in enumerate(both) if a != b), 0)

    ask = {"uuids": [*uuids]}
    found = store.run(read("store/neighbours", ask, lambda rows: [*rows]))
    return {
        uuid: max(_SHORTEST, *(length(uuid, neighbour) for neighbour in neighbours))
        for uuid, *neighbours in cast(list[list[UUID]], found)
    }


def command(name: str) -> tuple[list[click.Parameter], Callable[..., None]]:
    """Return the options of a report's command, and what it does.

    :param name: of the report's query, `report/…`
    """
    file = query(name)
    ask: _Report = getattr(report, name.rpartition("/")[2])
    parameters = [*signature(ask).parameters.values()]
    (rows_type,) = get_args(signature(ask).return_annotation)
    (row_type,) = get_args(rows_type)
    formats = output.formats(row_type)

    @click.pass_obj
    def run(
        database: Database,
        /,
        format_: str,
        columns: list[str] | None,
        wide: bool,
        doctor: bool = False,
        **typed: Any,
    ) -> None:
        if columns is not None and format_ not in output.WITH_COLUMNS:
            known = ", ".join(output.WITH_COLUMNS)
            raise click.UsageError(f"{format_} has no columns; --format {known} have some")
        with database.store() as store:
            given = {p.name: _value(store, p, typed[p.name]) for p in parameters}
            with _asked(store, ask(**given), stream=given.get("limit", 0) is None) as rows:
                found = _or_not_found(rows, row_type, parameters, given)
                if row_type is report.Miss and format_ == "table":
                    found = (replace(r, script=r.script_diff(given["script"])) for r in found)
                if doctor:
                    found = chain(found, checked.metrics(checked.examine(store)))
                room = Room.here(partial(unique_lengths, store), wide=wide)
                output.show(found, row_type, format_, columns, room)

    options = [_parameter(file, parameter) for parameter in parameters]
    if row_type is report.Metric:
        options += [click.Option(["--doctor"], is_flag=True, help="Also what `doctor` finds.")]
    options += [
        click.Option(
            ["--format", "format_"],
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="How the rows are written; in csv, what begins like a formula stays as it is.",
        ),
        click.Option(
            ["--columns"],
            type=_Columns([field.name for field in fields(row_type)]),
            metavar="NAME,NAME",
            help="Only these columns, in this order.",
        ),
        click.Option(
            ["--wide"],
            is_flag=True,
            help="All columns, and uuids in full, also where the terminal has no room for them.",
        ),
    ]
    return options, run


def _completer(file: Query, parameter: Parameter) -> Completer | None:
    """Return what completes a parameter."""
    field = parameter.name
    if parameter.annotation in (UUID, UUID | None):
        # `before` is a row of the listing: of `jobs` a job.
        subject = file.name.removesuffix("s") if field == "before" else field
        return uuids(next(kind for kind in _KINDS if subject.endswith(kind)))
    is_package = field in _PACKAGES or (file.name, field) == ("report/packages", "name")
    return packages if is_package else None


def _parameter(file: Query, parameter: Parameter) -> click.Parameter:
    """Return the option of a parameter, or the argument where it needs no name."""
    field = parameter.name
    known: dict[str, Any] = _OPTIONS[parameter.annotation]
    if field == "script" and parameter.annotation is not bool:
        known = {"type": _Script()}
    known = known | {"shell_complete": _completer(file, parameter)}
    if parameter.kind is not Parameter.KEYWORD_ONLY:
        return click.Argument([field], **known)
    note = file.notes[field]
    flags = [f"--{field.replace('_', '-')}", field]
    if note.letter:
        flags.insert(0, f"-{note.letter}")
    if field == "limit":
        return click.Option(
            flags,
            default=parameter.default,
            show_default=True,
            help=f"{note.text}; 0 for all.",
            **known,
        )
    is_required = parameter.default is Parameter.empty and "multiple" not in known
    return click.Option(flags, required=is_required, help=note.text, **known)


def _value(store: Store, parameter: Parameter, typed: Any) -> Any:
    """Return what the user typed in the form that the report takes."""
    if parameter.annotation in (UUID, UUID | None) and typed is not None:
        return resolve(store, typed, parameter.name)
    if parameter.name == "limit":
        return typed or None
    if parameter.annotation == report.Files:
        return [file for files in typed for file in files]
    return None if typed == () and parameter.default is None else typed


@contextmanager
def _asked(
    store: Store, statement: Statement[list[Any]], *, stream: bool
) -> Iterator[Iterator[Any]]:
    """Ask, and yield the rows; streamed, any number of them takes the same memory.

    Not all is streamed: that takes a further connection, and the server's statistics show a stream
    as FETCH of a cursor, everything else as its query.
    """
    if stream:
        with closing(store.stream(statement, idle=_IDLE_SECONDS)) as rows:
            yield rows
    else:
        yield iter(store.run(statement))


def _or_not_found(
    rows: Iterator[Any], row_type: type, parameters: list[Parameter], given: dict[str, Any]
) -> Iterator[Any]:
    """Pass rows on.

    :raises NotFound: the report is about one record and has no rows: there is no such record, or
        none that it can tell of
    """
    first = next(rows, None)
    if first is not None:
        yield first
        yield from rows
    elif parameters and parameters[0].annotation is UUID:
        field = parameters[0].name
        what = _ONLY.get(row_type, "")
        raise NotFound(f"there is no {field} {given[field]}{what}")
