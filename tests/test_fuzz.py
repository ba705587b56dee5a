"""What reads the texts of others, with any: the loader beside psql, logs, and the lines of logs."""

import csv
import io
import os
import subprocess
from pathlib import Path

import psycopg
from conftest import Postgres
from hypothesis import event, given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer

from butido_store._query import parse
from butido_store.errors import QueryFileError
from butido_store.log import Outcome, decode_log, encode_log, read_outcome

Connection = psycopg.Connection[tuple[object, ...]]

HEADER, CHOICES = "-- What is asked?\n", "--\n-- state {on|off}: one of two\n"
# Whole items of a list of columns, each of a form that query files have, or could have.
ITEMS = st.sampled_from(
    [
        "1",
        "'it''s :''x'' \\'",
        "E'\\'\\\\;'",
        "$$ ' :'x' ; -- $$",
        "$a$ $$ \\if $a$",
        ":'text'::text",
        ":'text'::text || ':'",
        ":'number'::bigint",
        ":'list'::text[]",
        "(:'list'::text[])[1:2]",
        ":count",
        "(ARRAY[1, 2, 3])[:count]",
        "7 -:count",
        "(ARRAY[1, 2, 3])[:count::bigint]",
        ":'state'",
        "1 AS \":'text' ; é\"",
        "/* :'text' /* ; */ ' */ 2",
        "3 -- ' ; :'text'\n",
        "5 % 3",
        "NULL",
        "'a' 'b'",
        "'a'\n'b'",
        "U&'\\0041;'",
        "jsonb '{\"a\": 1}' ? 'a'",
    ]
)
# What a typing error adds or takes for another.
NOISE = st.sampled_from(
    [
        *"'\"\\$;:,(){}[]?",
        "::",
        "$$",
        "$1",
        "--",
        "/*",
        "*/",
        "\n",
        "E'",
        ":'",
        ":'text'",
        ':"text"',
        ":text",
        ":{?text}",
        "\\if :{?other}\n",
        "\n\\endif\n",
        "\n\\else\n",
        "\\g",
        "\\\\",
        "é",
    ]
)
CLAUSES = ("more", "other")
VALUES = st.fixed_dictionaries(
    {
        "number": st.integers(-(2**63), 2**63 - 1),
        "list": st.lists(st.text("a\"'\\{}, é\n", max_size=3), max_size=3),
        "count": st.integers(0, 9),
        "state": st.sampled_from(["on", "off"]),
        "text": st.text("a'\"\\:;$%{}\n\té-", max_size=6),
    },
    optional={"more": st.just("1"), "other": st.text("a' :", max_size=3)},
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Draw a query file, now and then with an error in it."""
    text = "SELECT\n    0"
    for item in draw(st.lists(ITEMS, min_size=1, max_size=5)):
        clause = draw(st.sampled_from((None, None, None, *CLAUSES)))
        if clause and draw(st.booleans()):
            item = f":'{clause}'::text"
        line = f"\n    , {item}"
        text += line if clause is None else f"\n\\if :{{?{clause}}}{line}\n\\endif"
    text += "\nORDER BY 1;\n"
    for noise in draw(st.lists(NOISE, max_size=draw(st.sampled_from([0, 0, 1, 3])))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + noise + text[place:]
    return HEADER + (CHOICES if ":'state'" in text else "") + "\n" + text


@given(text=files(), values=VALUES)
def test_the_loader_reads_a_file_as_psql_does(
    text: str,
    values: dict[str, object],
    postgres: Postgres,
    dsn: str,
    connection: Connection,
    tmp_path: Path,
) -> None:
    """What the loader takes gives the same rows in both, or is refused by the server in both."""
    path = tmp_path / "file.sql"
    try:
        query = parse("fuzz/file", text, path)
        taken = (names for condition, names in query.clauses.items() if condition in values)
        wanted = query.required.union(*taken)
        given_ = {name: value for name, value in values.items() if name in wanted}
        sent, parameters = query.render(frozenset(given_)).bind(given_)
    except QueryFileError:
        event("the loader refuses it")
        return  # It takes less than psql does.
    rows: list[list[str]] | None = None
    try:
        cursor = psycopg.RawCursor(connection).execute(sent, parameters)
        result = cursor.pgresult
        assert result is not None
        cells = [
            [result.get_value(row, column) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]
        rows = [["" if cell is None else cell.decode() for cell in row] for row in cells]
        event("the server gives rows")
    except psycopg.Error:
        event("the server refuses it")
    path.write_text(text)
    known = Transformer(connection)
    variables = [
        f"--set={name}={bytes(known.get_dumper(value, PyFormat.TEXT).dump(value) or b'').decode()}"
        for name, value in given_.items()
    ]
    ran = subprocess.run(
        [
            *(postgres.psql, "-Xqt", "--csv", "--set=ON_ERROR_STOP=1", *variables),
            *("-f", str(path), dsn),
        ],
        env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    got = list(csv.reader(io.StringIO(ran.stdout.decode(), newline="")))
    assert (got if ran.returncode == 0 else None) == rows, ran.stderr.decode()


# Logs -------------------------------------------------------------------------------------------


_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_ESCAPES = st.sampled_from(["\\x5c", "\\x00", "\\xff", "\\xFF", "\\x", "\\x4", "5c"])


@given(text=st.lists(_CHARACTERS | _ESCAPES | NOISE).map("".join))
def test_any_text_that_a_log_can_have_is_read_as_bytes_that_are_kept(text: str) -> None:
    """Also what nobody has encoded, that a person wrote by psql."""
    data = decode_log(text)
    assert decode_log(encode_log(data)) == data
    plain = data.replace(b"\\", b"")
    assert encode_log(plain) == plain.decode(errors="surrogateescape").translate(_AS_BYTES)


_AS_BYTES = {0: "\\x00"} | {0xDC00 + n: f"\\x{n:02x}" for n in range(0x80, 0x100)}


def _read(lines: list[str]) -> Outcome:
    """Read the line protocol a second time, without expressions."""
    success, reason, progress, phase = False, None, None, None
    for line in lines:
        line = line.rstrip("\r\n")
        if not line.startswith("#BUTIDO:"):
            continue
        kind, colon, rest = line.removeprefix("#BUTIDO:").partition(":")
        if not colon:
            continue
        if kind == "STATE" and rest == "OK":
            success, reason = True, None
        elif kind == "STATE" and rest.startswith("ERR:"):
            text = rest.removeprefix("ERR:")
            if len(text) > 1 and text.startswith('"') and text.endswith('"'):
                text = text[1:-1]
            success, reason = False, text or None
        elif kind == "PHASE":
            phase = rest
        elif kind == "PROGRESS" and 0 < len(rest) <= 18 and set(rest) <= set("0123456789"):
            progress = int(rest)
    return Outcome(success, reason, progress, phase)


_WORDS = st.sampled_from(
    ["#BUTIDO:", "STATE:", "OK", "ERR:", "PROGRESS:", "PHASE:", '"', "7", "٣", "x", " ", "\r", ":"]
)


@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["#BUTIDO:", "#BUTIDO:", "", " "]), st.lists(_WORDS, max_size=5)
        ).map(lambda parts: parts[0] + "".join(parts[1])),
        max_size=6,
    )
)
def test_the_line_protocol_is_read_alike_by_a_second_reader(lines: list[str]) -> None:
    assert read_outcome(lines) == _read(lines)
