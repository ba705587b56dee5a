"""Rows of a report as text: tables, CSV, JSON, graphs, and what Prometheus reads."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, get_args, get_type_hints, is_typeddict
from uuid import UUID

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape

from butido_store._check import rfc3339
from butido_store.report import Metric, Product

_PAGE = 1000
_SHORT, _CELL = 12, 40
# Wider than any terminal, so that lines are not folded here: a uuid that is folded within its cell
# cannot be copied.
_WIDTH = 100_000


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


def _record(row: object) -> dict[str, Any]:
    return {field.name: plain(getattr(row, field.name)) for field in fields(row)}  # type: ignore[arg-type]


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _jsonl(rows: Iterable[object], _: type) -> Iterator[str]:
    return (_dump(_record(row)) for row in rows)


def _json(rows: Iterable[object], _: type) -> Iterator[str]:
    """Yield one array, a row on each line."""
    separator = "["
    for row in rows:
        yield f"{separator}{_dump(_record(row))}"
        separator = ","
    yield "]" if separator == "," else "[]"


def _csv(rows: Iterable[object], row_type: type) -> Iterator[str]:
    class Line:
        text = ""

        def write(self, text: str) -> None:
            self.text = text

    line = Line()
    writer = csv.writer(line, lineterminator="")
    writer.writerow(field.name for field in fields(row_type))
    yield line.text
    for row in rows:
        writer.writerow(_csv_cell(cell) for cell in _record(row).values())
        yield line.text


def _csv_cell(value: object) -> object:
    return _dump(value) if isinstance(value, list | dict | bool) else value


def _prometheus(rows: Iterable[Any], _: type) -> Iterator[str]:
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
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


# Graphs ---------------------------------------------------------------------------------------


def _dot(rows: Iterable[Any], _: type) -> Iterator[str]:
    yield "digraph artifacts {"
    yield "  rankdir=LR; node [shape=box];"
    known = {row.uuid: row for row in rows}
    for row in known.values():
        label = _label(f"{row.path}\n{row.sha256.hex()[:_SHORT]}")
        yield f'  "{row.uuid}" [label={label}];'
    for row in known.values():
        for source in row.inputs:
            if source in known:
                yield f'  "{source}" -> "{row.uuid}";'
    yield "}"


def _mermaid(rows: Iterable[Any], _: type) -> Iterator[str]:
    yield "flowchart LR"
    known = {row.uuid: row for row in rows}
    place = {uuid: f"a{number}" for number, uuid in enumerate(known)}
    for uuid, row in known.items():
        # Mermaid has entities for what ends its quotes.
        label = "".join(f"#{ord(c)};" if c in '"#<>&\\\n' else c for c in row.path)
        yield f'  {place[uuid]}["{label}<br>{row.sha256.hex()[:_SHORT]}"]'
    for uuid, row in known.items():
        for source in row.inputs:
            if source in known:
                yield f"  {place[source]} --> {place[uuid]}"


def _tree(rows: Iterable[Any], row_type: type) -> Iterator[str]:
    """Yield the graph as a tree; what has been drawn is not drawn again below a further parent.

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
    drawn: set[UUID] = set()
    # A cycle has no root; it is drawn from wherever it comes first.
    roots = [uuid for uuid in known if not above[uuid]] or [*known][:1]
    pending = [(root, "", "") for root in reversed(roots)]
    while pending:
        uuid, first, rest = pending.pop()
        again = uuid in drawn and bool(below[uuid])
        yield f"{first}{_leaf(known[uuid])}{' (above)' if again else ''}"
        if again:
            continue
        drawn.add(uuid)
        children = below[uuid]
        for place in range(len(children) - 1, -1, -1):
            last = place == len(children) - 1
            branch, under = ("└── ", "    ") if last else ("├── ", "│   ")
            pending.append((children[place], rest + branch, rest + under))


def _leaf(row: Any) -> str:
    parts = [_visible(row.path), row.sha256.hex()[:_SHORT]]
    if row.job_uuid:
        parts.append(f"job {row.job_uuid}")
    if getattr(row, "released", None):
        parts.append(f"released to {', '.join(row.released)}")
    return "  ".join(parts)


# Tables ---------------------------------------------------------------------------------------


def _visible(text: str) -> str:
    """Return the text with control characters as escapes, so that it stays on its line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bytes():
            return f"{value.hex()[:_SHORT]}…" if sys.stdout.isatty() else value.hex()
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        case timedelta():
            return str(timedelta(seconds=round(value.total_seconds())))
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case dict():
            return " ".join(f"{name}={item}" for name, item in value.items())
        case list():
            return " ".join(str(item) for item in value)
        case _:
            return str(value)


def _console() -> Console:
    return Console(width=_WIDTH, highlight=False, emoji=False, soft_wrap=True)


def _table_cell(value: object) -> str:
    """Return a cell on one line, and a short one on a terminal: other formats have it whole."""
    text = _visible(_cell(value))
    return f"{text[: _CELL - 1]}…" if len(text) > _CELL and sys.stdout.isatty() else text


def _print_lines(columns: list[str], lines: list[list[str]], *, head: bool = True) -> None:
    """Print cells in columns; not by rich's table, which takes milliseconds for a line."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *lines, strict=True)]

    def joined(cells: list[str]) -> str:
        padded = (set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join(padded).rstrip(" ")

    if head:
        _console().print(f"[bold]{escape(joined(columns))}[/]")
    for line in lines:
        sys.stdout.write(f"{joined(line)}\n")


def _print_table(rows: Iterator[object], row_type: type) -> None:
    """Print a table a page of rows at a time, so that any number of rows takes the same memory."""
    names = [field.name for field in fields(row_type)]
    head = True
    while page := list(islice(rows, _PAGE)):
        lines = [[_table_cell(getattr(row, name)) for name in names] for row in page]
        _print_lines(names, lines, head=head)
        head = False


def _print_records(rows: Iterator[object], row_type: type) -> None:
    """Print each row as a list of its values, and long ones and lists below it, these as tables."""
    out = _console()
    names = [field.name for field in fields(row_type)]
    width = max(map(len, names))
    for row in rows:
        values = {name: getattr(row, name) for name in names}
        later = {}
        for name, value in values.items():
            if (isinstance(value, str) and "\n" in value) or _is_table(value) or _is_long(value):
                later[name] = value
            elif value not in (None, []):
                out.print(f"[bold]{name:{width}}[/]  {escape(_visible(_cell(value)))}")
        for name, value in later.items():
            out.print(f"\n[bold]{name}[/]")
            if isinstance(value, str):
                out.print(escape(value.rstrip("\n")))
            elif isinstance(value, dict):
                out.print(escape(json.dumps(value, indent=2, ensure_ascii=False)))
            else:
                columns = list(dict.fromkeys(chain.from_iterable(value)))
                _print_lines(
                    columns, [[_table_cell(item.get(name)) for name in columns] for item in value]
                )
        out.print()


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _is_long(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, dict | list) for item in value.values())


# Formats --------------------------------------------------------------------------------------

_Text = Callable[[Iterable[Any], type], Iterator[str]]
_TEXTS: Mapping[str, _Text] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _jsonl,
    "tree": _tree,
    "dot": _dot,
    "mermaid": _mermaid,
    "prometheus": _prometheus,
}


def formats(row_type: type) -> list[str]:
    """Return the names of the formats that rows of this type have, the default one first."""
    usual = ["table", "csv", "json", "jsonl"]
    if get_type_hints(row_type).get("inputs") == list[UUID]:
        return ["tree", *usual, "dot", "mermaid"]
    return [*usual, "prometheus"] if row_type is Metric else usual


def show(rows: Iterator[object], row_type: type, name: str) -> None:
    """Print rows to the standard output.

    :param rows: the rows; they are read as they are printed
    :param row_type: their type
    :param name: one of `formats(row_type)`
    """
    if name != "table":
        for line in _TEXTS[name](rows, row_type):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    elif any(_holds_documents(kind) for kind in get_type_hints(row_type).values()):
        _print_records(rows, row_type)
    else:
        _print_table(rows, row_type)


def _holds_documents(kind: Any) -> bool:
    return is_typeddict(kind) or any(map(_holds_documents, get_args(kind)))
