"""Rows of a report as text: tables, CSV, JSON, graphs, and what Prometheus reads."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any, get_args, get_type_hints, is_typeddict
from uuid import UUID

import click

from butido_store._check import rfc3339
from butido_store.cli.tables import (
    Room,
    cell_len,
    cut,
    encodable,
    print_table,
    spare_columns,
    text_of,
    typed,
    visible,
    with_unknown,
)
from butido_store.report import Found, JobReport, Metric, Product, Release, Slsa

_PAGE = 1000
_SHORT = 12
# Texts of many lines, which are printed as they are stored.
_DOCUMENTS = ("script", "log")
# What is looked at last of these, before what is looked at last of all.
_SECOND: Mapping[type, tuple[str, ...]] = {
    Found: ("job_uuid",),
    Release: ("uuid", "job_uuid", "package", "version"),
}


def plain(value: object) -> Any:
    """Return a value as JSON has it: times in RFC 3339 and UTC, durations in seconds."""
    match value:
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case datetime():
            return rfc3339(value)
        case timedelta():
            return value.total_seconds()
        case list():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case _:
            return value


def _record(row: object, columns: Sequence[str]) -> dict[str, Any]:
    return {name: plain(getattr(row, name)) for name in columns}


def as_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON, with what is not seen as escapes: any reader has the same value."""
    is_ascii = not encodable("é…🐘", "")
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    return text if text.isprintable() else "".join(map(_in_json, text))


def _in_json(char: str) -> str:
    return json.dumps(char)[1:-1] if visible(char, keep="\n") != char else char


def _jsonl(rows: Iterable[object], columns: Sequence[str]) -> Iterator[str]:
    return (as_json(_record(row, columns)) for row in rows)


def _json(rows: Iterable[object], columns: Sequence[str]) -> Iterator[str]:
    """Yield one array, a row on each line."""
    separator = "["
    for row in rows:
        yield f"{separator}{as_json(_record(row, columns))}"
        separator = ","
    yield "]" if separator == "," else "[]"


def _csv(rows: Iterable[object], columns: Sequence[str]) -> Iterator[str]:
    """Yield CSV as RFC 4180 has it: lines end in CR LF, and what holds a line break is quoted.

    A cell that begins with = or another sign of a formula stays as it is: a changed value would be
    wrong for every program, and a spreadsheet can import columns as text.
    """

    class Line:
        text = ""

        def write(self, text: str) -> None:
            self.text = text

    line = Line()
    writer = csv.writer(line, lineterminator="\r\n")
    writer.writerow(columns)
    yield line.text.removesuffix("\n")
    for row in rows:
        writer.writerow(_csv_cell(cell) for cell in _record(row, columns).values())
        yield line.text.removesuffix("\n")


def _csv_cell(value: object) -> object:
    match value:
        case list() | dict() | bool():
            return as_json(value)
        case str():
            # Line breaks are within quotes, but a single CR would hide what is before it.
            return visible(value, keep="\t\n" if sys.stdout.isatty() else "\t\n\r")
        case _:
            return value


def _prometheus(rows: Iterable[Any]) -> Iterator[str]:
    """Yield the text format: https://prometheus.io/docs/instrumenting/exposition_formats/."""
    last = ""
    for row in rows:
        if row.metric != last:
            yield f"# HELP {row.metric} {row.help}"
            yield f"# TYPE {row.metric} gauge"
            last = row.metric
        labels = ",".join(f"{name}={_label(value)}" for name, value in row.labels.items())
        yield f"{row.metric}{f'{{{labels}}}' if labels else ''} {row.value!r}"


def _label(value: str) -> str:
    text = visible(value, keep="\n").replace("\\", "\\\\")
    return '"{}"'.format(text.replace('"', '\\"').replace("\n", "\\n"))


def _statement(rows: Iterable[Any]) -> Iterator[str]:
    """Yield the statement of each row alone, as what signs it reads it."""
    return (as_json(row.statement, indent=2) for row in rows)


# Graphs ---------------------------------------------------------------------------------------


def _digest(row: Any, digits: int = _SHORT) -> str:
    """Return the first digits of a file's digest."""
    return text_of(with_unknown("sha256", row.sha256 and row.sha256[: digits // 2]))


def _dot(rows: Iterable[Any]) -> Iterator[str]:
    yield "digraph artifacts {"
    yield "  rankdir=LR; node [shape=box];"
    known = {row.uuid: row for row in rows}
    for row in known.values():
        label = _label(f"{visible(row.path)}\n{_digest(row)}")
        yield f'  "{row.uuid}" [label={label}];'
    for row in known.values():
        for source in row.inputs:
            if source in known:
                yield f'  "{source}" -> "{row.uuid}";'
    yield "}"


def _mermaid(rows: Iterable[Any]) -> Iterator[str]:
    yield "flowchart LR"
    known = {row.uuid: row for row in rows}
    place = {uuid: f"a{number}" for number, uuid in enumerate(known)}
    for uuid, row in known.items():
        # Mermaid has entities for what ends its quotes.
        path = visible(row.path)
        label = "".join(f"#{ord(c)};" if c in '"#<>&\\' else c for c in path)
        yield f'  {place[uuid]}["{label}<br>{_digest(row)}"]'
    for uuid, row in known.items():
        for source in row.inputs:
            if source in known:
                yield f"  {place[source]} --> {place[uuid]}"


def _tree(rows: Iterable[Any], row_type: type, room: Room) -> Iterable[str]:
    """Return the graph as a tree, where there is little room with less of each artifact.

    Below an artifact stands what it was made from; of `impact`, what was made from it.
    """
    known = {row.uuid: row for row in rows}
    inputs = {uuid: [i for i in row.inputs if i in known] for uuid, row in known.items()}
    uses: dict[UUID, list[UUID]] = {uuid: [] for uuid in known}
    for uuid, sources in inputs.items():
        for source in sources:
            uses[source].append(uuid)
    below, above = (uses, inputs) if row_type is Product else (inputs, uses)
    for children in below.values():
        children.sort(key=lambda uuid: known[uuid].path)
    # A cycle has no root; it is drawn from wherever it comes first.
    roots = [uuid for uuid in known if not above[uuid]] or [*known][:1]
    if room.width is None:
        return _drawn(roots, below, {uuid: _leaf(row) for uuid, row in known.items()})
    lengths = room.lengths({row.job_uuid for row in known.values() if row.job_uuid})
    length = max(lengths.values(), default=0)
    for less in ({}, {"length": length}, {"length": length, "digest": 0}):
        leaves = {uuid: _leaf(row, **less) for uuid, row in known.items()}
        if all(cell_len(line) <= room.width for line in _drawn(roots, below, leaves)):
            break
    return _drawn(roots, below, leaves, room.width)


def _drawn(
    roots: Sequence[UUID],
    below: Mapping[UUID, Sequence[UUID]],
    leaves: Mapping[UUID, tuple[str, str]],
    width: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a tree, in the width: a path is cut first, then what follows it.

    What has been drawn is not drawn again below a further parent.
    """
    branches = [encodable(sign, other) for sign, other in (("├── ", "|-- "), ("└── ", "`-- "))]
    bar = encodable("│", "|")
    drawn: set[UUID] = set()
    pending = [(root, "", "") for root in reversed(roots)]
    while pending:
        uuid, first, rest = pending.pop()
        again = uuid in drawn and bool(below[uuid])
        path, more = leaves[uuid]
        line = f"{first}{path}{more}{' (above)' if again else ''}"
        if width is not None and (excess := cell_len(line) - width) > 0:
            room = max(_SHORT, cell_len(path) - excess)
            line = line.replace(path, cut(path, room) if room < cell_len(path) else path, 1)
            line = cut(line, width) if cell_len(line) > width else line
        yield line
        if again:
            continue
        drawn.add(uuid)
        children = below[uuid]
        for place in range(len(children) - 1, -1, -1):
            last = place == len(children) - 1
            under = "    " if last else f"{bar}   "
            pending.append((children[place], rest + branches[last], rest + under))


def _leaf(row: Any, *, length: int | None = None, digest: int = _SHORT) -> tuple[str, str]:
    """Return the path of an artifact, and what is shown of it.

    :param row: the artifact
    :param length: characters of the job's uuid; all, if not given
    :param digest: digits of the content's digest
    """
    parts = ["", _digest(row, digest)] if digest else [""]
    if row.job_uuid:
        parts.append(f"job {str(row.job_uuid)[:length]}")
    if getattr(row, "released", None):
        parts.append(f"released to {visible(', '.join(row.released))}")
    return text_of(row.path), "  ".join(parts)


# Tables ---------------------------------------------------------------------------------------


def _print_rows(
    rows: Iterator[object], row_type: type, columns: Sequence[str] | None, room: Room
) -> None:
    """Print a table a page of rows at a time, so that any number of rows takes the same memory."""
    names = _names(row_type) if columns is None else columns
    spare = spare_columns(*_SECOND.get(row_type, ())) if columns is None else ()
    head = None
    while page := list(islice(rows, _PAGE)):
        values = [[with_unknown(name, getattr(row, name)) for name in names] for row in page]
        head = print_table(names, values, room, spare=spare, head=head)
    if head is None and room.width:
        click.secho("no rows", dim=True)
    room.tell()


def _print_records(
    rows: Iterator[object], row_type: type, columns: Sequence[str] | None, room: Room
) -> None:
    """Print each row as a list of its values, and long ones and lists below it, these as tables."""
    names = _names(row_type) if columns is None else columns
    width = max(map(len, names))
    for row in rows:
        values = {name: with_unknown(name, getattr(row, name)) for name in names}
        later = {}
        for name, value in values.items():
            if value and (name in _DOCUMENTS or _is_table(value) or _is_long(value)):
                later[name] = value
            elif value is not False and value not in (None, [], {}):
                label = f"{click.style(name, bold=True)}{' ' * (width - len(name))}"
                for text in _lines(value):
                    # Not where click finds it, which writes UTF-8 where ASCII is asked for.
                    click.echo(f"{label}  {text}", file=sys.stdout)
                    label = " " * width
        for name, value in later.items():
            click.echo(f"\n{click.style(name, bold=True)}")
            if isinstance(value, str):
                # A job's is printed as it is stored, so that it can be taken from here; a terminal
                # would act on it, and in a difference one has to see it.
                as_it_is = row_type is JobReport and not sys.stdout.isatty()
                text = value if as_it_is else visible(value, keep="\t\n")
                sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
            elif isinstance(value, dict):
                click.echo(as_json(value, indent=2))
            else:
                parts = [*dict.fromkeys(chain.from_iterable(value))]
                cells = [
                    [typed(with_unknown(part, item.get(part))) for part in parts] for item in value
                ]
                print_table(parts, cells, room, spare=spare_columns())
        click.echo()
    room.tell()


def _lines(value: object) -> Iterable[str]:
    """Return the lines of a value: one for each variable or part."""
    if isinstance(value, dict):
        texts = {name: "unknown" if item is None else text_of(item) for name, item in value.items()}
        return [f"{text_of(name)}={text}" for name, text in texts.items()]
    return map(text_of, value) if isinstance(value, list) else [text_of(value)]


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _is_long(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, dict | list) for item in value.values())


# Formats --------------------------------------------------------------------------------------

_Text = Callable[[Iterable[Any], Sequence[str]], Iterator[str]]
_TEXTS: Mapping[str, _Text] = {"csv": _csv, "json": _json, "jsonl": _jsonl}
WITH_COLUMNS = ("table", *_TEXTS)
_Picture = Callable[[Iterable[Any]], Iterator[str]]
_PICTURES: Mapping[str, _Picture] = {
    "dot": _dot,
    "mermaid": _mermaid,
    "prometheus": _prometheus,
    "statement": _statement,
}


def formats(row_type: type) -> list[str]:
    """Return the names of the formats that rows of this type have, the default one first."""
    usual = [*WITH_COLUMNS]
    if get_type_hints(row_type).get("inputs") == list[UUID]:
        return ["tree", *usual, "dot", "mermaid"]
    if row_type is Slsa:
        return ["statement", *usual]
    return [*usual, "prometheus"] if row_type is Metric else usual


def _names(row_type: type) -> list[str]:
    return [field.name for field in fields(row_type)]


def show(
    rows: Iterator[object],
    row_type: type,
    name: str,
    columns: Sequence[str] | None = None,
    room: Room | None = None,
) -> None:
    """Print rows to the standard output.

    :param rows: the rows; they are read as they are printed
    :param row_type: their type
    :param name: one of `formats(row_type)`
    :param columns: only these, in this order; for a format that has columns
    :param room: what tables and trees have; all, if not given
    """
    room = room or Room()
    lines: Iterable[str] = ()
    if name in _TEXTS:
        lines = _TEXTS[name](rows, _names(row_type) if columns is None else columns)
    elif name == "tree":
        lines = _tree(rows, row_type, room)
    elif name in _PICTURES:
        lines = _PICTURES[name](rows)
    elif any(_holds_documents(kind) for kind in get_type_hints(row_type).values()):
        _print_records(rows, row_type, columns, room)
    else:
        _print_rows(rows, row_type, columns, room)
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _holds_documents(kind: Any) -> bool:
    return is_typeddict(kind) or any(map(_holds_documents, get_args(kind)))
