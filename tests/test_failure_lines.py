"""What a log says of a failure, whatever colours, line ends and progress bars are in it."""

import re

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended

from butido_store import job, report, uuid7

Connection = psycopg.Connection[tuple[object, ...]]
ESC, CSI, BEL = "\x1b", "\x9b", "\a"
COLOURS = (
    f"{ESC}[01;31m{ESC}[K",
    f"{ESC}[m{ESC}[K",
    f"{ESC}[0m",
    f"{ESC}[38;5;196m",
    f"{ESC}[38:2::255:0:0m",
    f"{ESC}[?25l",
    f"{ESC}[2 q",
    f"{CSI}1m",
    f"{ESC}(B{ESC}[m\x0f",
    f"{ESC}7",
    f"{ESC}=",
    f"{ESC}]0;make: error{BEL}",
    f"{ESC}]8;;https://example.org/error{ESC}\\",
    f"{ESC}Pfailed{ESC}\\",
    BEL,
    "",
)
LINE_ENDS = ("\n", "\r\n", "\r\r\n", " \n", "\t \r\n")
PROGRESS = ("", "", "10%\r100%\r", "error: 1 of 9\r", f"[1/2] cc{ESC}[K\r")
LINES = (
    "gcc -O2 -c src/a.c -o a.o",
    "",
    "a.c:3:5: error: 'x' undeclared (first use in this function)",
    "b.c:3: error: expected ';'",
    "  return x;",
    "/usr/bin/ld: a.o: undefined reference to `f'",
    "make: *** [Makefile:7: all] Error 1",
    "java.lang.NullPointerException",
    "Killed",
    "TEST FAILED é",
    "/tmp/build-1/b.c:1: fatal: no 0xdeadbeef",
    "0 errors, 0 failovers",
)


def lines_of(connection: Connection, log: str) -> str | None:
    found = connection.execute("SELECT failure_lines(%s)", [log]).fetchone()
    assert found
    return None if found[0] is None else str(found[0])


# The same, written a second time -----------------------------------------------------------------

WORDS = {"error", "err", "fatal", "fail", "fails", "failed", "failure", "exception", "panic"}
WORDS |= {"undefined", "killed"}


def plain(text: str) -> str:
    """Return a text as a terminal takes it: without its escape sequences and control characters."""
    kept, at = [], 0
    while at < len(text):
        char, at = text[at], at + 1
        if char == CSI or text[at - 1 : at + 1] == ESC + "[":
            at += char == ESC
            while at < len(text) and "0" <= text[at] <= "?":
                at += 1
            while at < len(text) and " " <= text[at] <= "/":
                at += 1
            at += at < len(text) and "@" <= text[at] <= "~"
        elif char == ESC and text[at : at + 1] in tuple("]PX^_"):
            at += 1
            while at < len(text) and text[at] not in BEL + ESC + "\n":
                at += 1
            if text[at : at + 1] == BEL:
                at += 1
            elif text[at : at + 2] == ESC + "\\":
                # A log has a backslash before such letters as \x5c.
                at += 5 if text[at + 2 : at + 5] == "x5c" else 2
        elif char == ESC:
            while at < len(text) and " " <= text[at] <= "/":
                at += 1
            at += at < len(text) and "0" <= text[at] <= "~"
        elif char in "\t\n\v\f\r" or (char >= " " and char != "\x7f"):
            kept.append(char)
    return "".join(kept)


def expected(log: str) -> str | None:
    """Return what `failure_lines` has to give."""
    first, *rest = plain(("\n" + log)[-20001:]).split("\n")
    shown = [line.rstrip("\r").split("\r")[-1].rstrip(" \t\v\f") for line in rest]
    shown = [line for line in shown if line] or [
        first.rstrip("\r").split("\r")[-1].rstrip(" \t\v\f")
    ]
    told = [
        line
        for line in shown
        if WORDS.intersection(re.split(r"[^a-z0-9_]", "".join(map(lowered, line))))
        or re.search(r"[A-Za-z](Error|Exception)(?![A-Za-z0-9_])", line)
    ]
    last = [line for line in told or shown if line][-3:]
    return "\n".join(map(blurred, last)) or None


def lowered(char: str) -> str:
    return char.lower() if char.isascii() else char


def blurred(line: str) -> str:
    line = re.sub(r"/(?:var/)?tmp/[^\s:'\")\]]*", "/tmp/#", line, flags=re.ASCII)
    number = r"\b0x[0-9a-f]+\b|\b[0-9a-f]{7,}\b|[0-9]+"
    line = re.sub(number, "#", line, flags=re.ASCII | re.IGNORECASE)
    return re.sub(r"\s+", " ", line, flags=re.ASCII)[:300]


FRAGMENTS = (*COLOURS, *LINE_ENDS, *PROGRESS, *LINES, *"\r\v\f 1eE;[\\é\x7f", ESC, "\\x5cx41", "m")


@given(log=st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
def test_the_lines_are_those_of_a_second_implementation(log: str, connection: Connection) -> None:
    assert lines_of(connection, log) == expected(log)


@pytest.mark.parametrize("end", ["", "error: the last\n", "no more\n", "x" * 19_990, "y" * 20_001])
def test_of_a_long_log_the_whole_lines_of_its_end_count(end: str, connection: Connection) -> None:
    log = "error: far away\n" * 3 + "cc -Werror=all\n" * 1334 + "error\n" + end
    assert lines_of(connection, log) == expected(log)


# What is the same, and what is not --------------------------------------------------------------


@st.composite
def shown(draw: st.DrawFn, lines: tuple[str, ...]) -> str:
    """Return lines as a build may print them."""
    printed = ""
    for line in lines:
        coloured = line
        # From the end on, so that none lands in another.
        for place in sorted(draw(st.lists(st.integers(0, len(line)), max_size=3)), reverse=True):
            colour = draw(st.sampled_from(COLOURS))
            coloured = coloured[:place] + colour + coloured[place:]
        # Where nothing overwrites it, a progress bar stays.
        printed += draw(st.sampled_from(PROGRESS)) if line else ""
        printed += coloured + draw(st.sampled_from(LINE_ENDS))
    return printed


@st.composite
def shown_twice(draw: st.DrawFn) -> tuple[str, str, str]:
    """Return lines, and two ways to print them."""
    lines = tuple(draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=6)))
    return "\n".join(lines), draw(shown(lines)), draw(shown(lines))


@given(logs=shown_twice())
def test_colours_and_line_ends_make_no_other_failure(
    logs: tuple[str, str, str], connection: Connection
) -> None:
    assert len({lines_of(connection, log) for log in logs}) == 1


@given(
    data=st.data(),
    names=st.lists(
        st.from_regex("[g-z]{1,9}", fullmatch=True), min_size=2, max_size=2, unique=True
    ),
)
def test_other_errors_are_other_failures(
    data: st.DataObject, names: list[str], connection: Connection
) -> None:
    logs = [
        data.draw(shown((f"a.c:3: error: '{name}' undeclared", "make: Error 1"))) for name in names
    ]
    assert len({lines_of(connection, log) for log in logs}) == 2


def test_errors_in_colours_are_told_apart(store: AnyStore) -> None:
    of_submit = uuid7()
    logs = [
        f"gcc -c {file}\n{file}:3: {ESC}[01;31m{ESC}[Kerror: {ESC}[m{ESC}[K{what}\n"
        "make: *** [all] Error 1\n"
        for file, what in [("a.c", "'x' undeclared"), ("b.c", "expected ';'")]
    ]
    store.run(create(of_submit))
    for log in (*logs, *(log.replace("\n", "\r\n") for log in logs)):
        store.run(job.record(ended(uuid7(), of_submit, state="error", log=log)))
    assert {(row.jobs, row.lines) for row in store.run(report.failures())} == {
        (2, "a.c:#: error: 'x' undeclared\nmake: *** [all] Error #"),
        (2, "b.c:#: error: expected ';'\nmake: *** [all] Error #"),
    }
