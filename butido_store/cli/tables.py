"""Tables that fit the terminal, and texts that cannot act on it."""

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unicodedata import category
from uuid import UUID

import click

_SHORT = 12
# No text is cut to less than the first before a column is left out, nor to less than the second.
_LEAST, _FEWEST = 40, 4
# Columns that are left out where the terminal has no room, the first of these first. What is not
# named here stays.
_SPARE = (
    *("measurements", "inputs", "fingerprint", "image_sha256", "container_hash", "heartbeat_at"),
    *("log_removed", "log_size"),
    *("help", "sha256", "repo_hash", "submit_uuid", "previous_job", "first_job", "withdrawn_by"),
    *("last_at", "finished_at", "first_at", "exit_code", "size", "endpoint", "image"),
    *("first_commit", "reason", "started_at", "reused", "state", "version"),
    *("withdrawn_at", "replaced_at"),
)
# What acts on a terminal or is not seen there: controls, format characters such as those of
# bidirectional text, halves of surrogate pairs, and separators of lines.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A commit's hash, or the SHA-256 of a file's content.
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Unknown:
    """What there is, though the store does not know it; None is what there is not."""

    def __str__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()
# Where None is unknown: of a file's content, and of a build that read such a file.
_MAY_BE_UNKNOWN = ("sha256", "size", "fingerprint")

# How many characters of each uuid tell it from all others in the store.
Lengths = Callable[[Iterable[UUID]], Mapping[UUID, int]]


def visible(text: str, keep: str = "") -> str:
    r"""Return a text with what would act on a terminal as escapes: \x1b for ESC.

    :param text: the text
    :param keep: characters that stay, such as line breaks
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in _HIDDEN and c not in keep else c
        for c in text
    )


def encodable(text: str, otherwise: str) -> str:
    """Return a text if the standard output's encoding has it, else another one."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return otherwise
    return text


def _whole(uuids: Iterable[UUID]) -> Mapping[UUID, int]:
    return {uuid: len(str(uuid)) for uuid in uuids}


@dataclass(frozen=True, slots=True)
class Room:
    """The room that there is for lines.

    `width` is in characters; None has no end. `left_out` collects the names of columns that had
    no room.
    """

    width: int | None = None
    lengths: Lengths = _whole
    left_out: dict[str, None] = field(default_factory=dict)

    @classmethod
    def here(cls, lengths: Lengths = _whole, *, wide: bool = False) -> "Room":
        """Return the room of the terminal, or all where the output goes elsewhere.

        :param lengths: how far uuids may be shortened
        :param wide: all on a terminal, too
        """
        if wide or not sys.stdout.isatty():
            return cls()
        return cls(shutil.get_terminal_size().columns, lengths)

    def tell(self) -> None:
        """Print which columns were left out."""
        if self.left_out and self.width:
            names = ", ".join(self.left_out)
            text = f"not shown: {names}; --wide shows all, --columns those you name"
            click.secho("\n".join(textwrap.wrap(text, self.width)), dim=True)


def text_of(value: object) -> str:
    """Return a value as text on one line."""
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case bytes():
            return value.hex()
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        case timedelta():
            seconds = round(value.total_seconds())
            return f"{'-' if seconds < 0 else ''}{timedelta(seconds=abs(seconds))}"
        case float():
            # Thousandths, but never none of them for what is not 0.
            is_small = value and abs(value) < 0.001
            return f"{value:.3g}" if is_small else f"{value:.3f}".rstrip("0").rstrip(".")
        case dict():
            text = " ".join(f"{name}={text_of(item)}" for name, item in value.items())
        case list():
            text = " ".join(map(str, value))
        case _:
            text = str(value)
    return visible(text)


def with_unknown(column: str, value: Any) -> Any:
    """Return the value of a column, UNKNOWN for a None that stands for what is not known."""
    return UNKNOWN if value is None and column in _MAY_BE_UNKNOWN else value


def typed(value: object) -> object:
    """Return what a text of a document stands for: a uuid, a digest or a time."""
    if isinstance(value, str):
        if _UUID.fullmatch(value):
            return UUID(value)
        if _DIGEST.fullmatch(value):
            return bytes.fromhex(value)
        if _TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    return value


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    room: Room | None = None,
    *,
    spare: Sequence[str] = (),
    head: Sequence[str] | None = None,
) -> list[str]:
    """Print values in columns; not by rich's table, which takes 1.5 ms for a line.

    :param columns: names of the columns
    :param rows: the values of each
    :param room: the room there is; that of the terminal, if not given
    :param spare: what is left out first where there is little room
    :param head: the columns of the lines above these, which have no names again
    :returns: the columns that had room
    """
    room = Room.here() if room is None else room
    lines = [[text_of(value) for value in row] for row in rows]
    widths = _widths(columns, lines)
    kept: Sequence[int] = range(len(columns))
    if room.width is not None and _total(widths) > room.width:
        kept, lines, widths = _fitted(columns, rows, room, spare)
    numbers = [is_number for at, is_number in enumerate(_all_are(rows, (int, float))) if at in kept]

    def joined(cells: Iterable[str]) -> str:
        return "  ".join(map(_cell, cells, widths, numbers)).rstrip(" ")

    shown = [columns[at] for at in kept]
    if shown != head:
        click.secho(joined(shown), bold=True)
    for line in lines:
        sys.stdout.write(f"{joined(line)}\n")
    return shown


def spare_columns(*first: str) -> tuple[str, ...]:
    """Return the names of columns that are left out first, those given before all others."""
    return (*first, *_SPARE)


def cell_len(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # takes 30 ms

    return cell_len(text)


def _cropped(text: str, width: int) -> str:
    """Return a text in exactly this width."""
    if text.isascii():
        return text[:width].ljust(width)
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def _cell(text: str, width: int, is_number: bool) -> str:
    """Return a text in exactly this width, a number at its right end."""
    missing = width - cell_len(text)
    if missing >= 0:
        return " " * missing + text if is_number else text + " " * missing
    return cut(text, width)


def cut(text: str, width: int) -> str:
    """Return what there is room for of a text that is longer."""
    return f"{_cropped(text, width - 1)}{encodable('…', '~')}"


def _all_are(rows: Sequence[Sequence[object]], kinds: tuple[type, ...]) -> Iterable[bool]:
    """Return for each column whether it has values, and all are of these kinds."""
    for column in zip(*rows, strict=True):
        values = [value for value in column if value not in (None, UNKNOWN)]
        yield bool(values) and all(isinstance(value, kinds) for value in values)


def _widths(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(columns, *lines, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _fitted(
    columns: Sequence[str], rows: Sequence[Sequence[object]], room: Room, spare: Sequence[str]
) -> tuple[list[int], list[list[str]], list[int]]:
    """Return the places of columns, the lines of these and their widths, so that they have room.

    Uuids and digests are shortened first; then columns are left out, those without a value before
    all others, until texts have their least width; then the widest texts are cut.
    """
    limit = room.width or 0
    values = [[typed(value) for value in row] for row in rows]
    lengths = room.lengths({value for row in values for value in row if isinstance(value, UUID)})
    shortened = [_shortened(column, lengths) for column in zip(*values, strict=True)]
    lines = [[*line] for line in zip(*shortened, strict=True)]
    widths = [min(width, limit) for width in _widths(columns, lines)]
    is_text = [*_all_are(values, (str, list, dict))]

    def least(places: Iterable[int]) -> int:
        return _total([min(widths[at], _LEAST) if is_text[at] else widths[at] for at in places])

    kept, out = [*range(len(columns))], []
    order = [columns.index(name) for name in spare if name in columns]
    empty = [at for at in order if not any(line[at] for line in lines)]
    for at in dict.fromkeys([*empty, *order]):
        if least(kept) > limit and len(kept) > 1:
            kept.remove(at)
            out.append(at)
    for at in reversed(out):
        if least([*kept, at]) <= limit:
            kept = sorted([*kept, at])
    room.left_out.update(dict.fromkeys(columns[at] for at in out if at not in kept))
    texts = [at for at in kept if is_text[at]]
    excess = _total([widths[at] for at in kept]) - limit
    for fewest in (_LEAST, _FEWEST):
        while excess > 0 and texts and max(widths[at] for at in texts) > fewest:
            widths[max(texts, key=widths.__getitem__)] -= 1
            excess -= 1
    return (
        kept,
        [[line[at] for at in kept] for line in lines],
        [widths[at] for at in kept],
    )


def _shortened(column: Sequence[object], lengths: Mapping[UUID, int]) -> Iterable[str]:
    """Return values of a column as texts, the uuids all of the same length."""
    length = max((lengths[value] for value in column if isinstance(value, UUID)), default=0)
    for value in column:
        match value:
            case UUID():
                yield str(value)[:length]
            case bytes():
                yield f"{value.hex()[:_SHORT]}{encodable('…', '~')}"
            case _:
                yield text_of(value)
