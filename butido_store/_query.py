"""Load the query files of `sql/`: psql's own syntax on disk, PostgreSQL's `$1` on the wire.

A query file is one statement that runs unchanged in psql. `:'name'::type` is sent as a parameter;
`:name`, a number, and `:'name'`, one of the header's choices, are written out. A line
`\\if :{?name}` up to its line `\\endif` is kept only where that parameter is given. Nothing else
of psql's language is accepted, so what a reviewer reads is what the server gets.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

from butido_store.errors import QueryFileError

_TOKEN = re.compile(
    r"""
    (?P<space>      \s+ )
  | (?P<line>       --[^\n]* )
  | (?P<block>      /\* )
  | (?P<estring>    [eE]'(?:[^'\\]|\\.|'')*' )
  | (?P<string>     '(?:[^']|'')*' )
  | (?P<identifier> "(?:[^"]|"")*" )
  | (?P<dollar>     \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ )
  | (?P<unclosed>   [eE]?' | " | \$(?:[A-Za-z_]\w*)?\$ )
  | (?P<word>       [^\W\d][\w$]* )
  | (?P<positional> \$\d+ )
  | (?P<number>     \d[\w.]* )
  | (?P<cast>       :: )
  | (?P<parameter>  :'(?P<name>\w+)'(?P<type>::[a-z_][a-z_0-9]*(?:\[\])?)? )
  | (?P<bare>       :(?P<number_name>[A-Za-z_]\w*) )
  | (?P<variable>   :["{'] )
  | (?P<command>    \\[^\n]* )
  | (?P<end>        ; )
  | (?P<other>      . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_IF = re.compile(r"\\if[ \t]+:\{\?(\w+)\}[ \t]*")
_ENDIF = re.compile(r"\\endif[ \t]*")
_HEADER_LINE = re.compile(r"--(?: ?)(.*)")
_PACKAGE = Path(__file__).resolve().parent
_HEADER_PARAMETER = re.compile(r"(\w+)(?:, -(\w))?(?: \{([\w|]+)\})?:\s+(.*)")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL text: its kind, its text and the line it starts on."""

    kind: str
    text: str
    line: int
    # Set for a parameter; one that is written out is a bigint, or text where it has choices.
    name: str = ""
    type: str = ""
    written: bool = False


def tokenize(sql: str, path: Path) -> Iterator[Token]:
    """Cut SQL text into tokens, quoted strings and comments (nested too) each in one.

    :param sql: the text of a file
    :param path: the file, for messages
    :raises QueryFileError: a quote or comment is not closed
    """
    at, line = 0, 1
    while at < len(sql):
        match = cast(re.Match[str], _TOKEN.match(sql, at))  # the last alternative takes anything
        kind, end = match.lastgroup or "", match.end()
        if match["block"]:
            depth = 1
            while depth:
                edge = _BLOCK_EDGE.search(sql, end)
                if edge is None:
                    raise QueryFileError(f"{path}:{line}: a comment is not closed")
                depth += 1 if edge[0] == "/*" else -1
                end = edge.end()
        elif match["unclosed"]:
            raise QueryFileError(f"{path}:{line}: a quoted string is not closed")
        elif match["dollar"]:
            kind = "dollar"
        text = sql[at:end]
        if match["bare"]:
            yield Token("parameter", text, line, match["number_name"], "bigint", written=True)
        elif match["parameter"]:
            type_ = (match["type"] or "::text")[2:]
            yield Token("parameter", text, line, match["name"], type_, not match["type"])
        else:
            yield Token(kind, text, line)
        line += text.count("\n")
        at = end


@dataclass(frozen=True, slots=True)
class Note:
    """What a header says of a parameter: its meaning, its letter and its values, if it has any."""

    text: str
    letter: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A query for one choice of parameters: its text with `$1`, and their names in that order."""

    sql: str
    order: tuple[str, ...]
    # The text up to the first value that is written out; then of each its name, its choices and the
    # text after it. They are bytes, since to encode the text would cost each call 3 µs.
    _text: bytes
    _written: tuple[tuple[str, tuple[str, ...], bytes], ...]
    _sent: tuple[str, ...]

    def bind(self, parameters: Mapping[str, object]) -> tuple[bytes, list[object]]:
        """Return the text that is sent, and the values that go with it, in their order.

        :param parameters: the value of each parameter
        :raises ValueError: what is written out is not a number, or not one of the choices
        """
        text = self._text
        for name, choices, after in self._written:
            text += _literal(name, choices, parameters[name]) + after
        return text, [*map(parameters.__getitem__, self._sent)]


def _literal(name: str, choices: tuple[str, ...], value: object) -> bytes:
    """Return a value as SQL text: one of the choices or a number, so that no other SQL gets in."""
    if choices and value in choices:
        return f"'{value}'".encode()
    if not choices and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return b"%d" % value
    raise ValueError(f"{name} is {value!r}")


@dataclass(frozen=True, slots=True)
class Query:
    """One query file: its name, what its header says, and its text with optional clauses."""

    name: str
    path: Path
    summary: str
    notes: Mapping[str, Note]
    types: Mapping[str, str]
    required: frozenset[str]
    clauses: Mapping[str, frozenset[str]]
    # What is written out, with its choices; none where it is a number.
    _written: Mapping[str, tuple[str, ...]]
    _tokens: tuple[tuple[frozenset[str], Token], ...] = field(repr=False)
    _rendered: dict[frozenset[str], Rendered] = field(default_factory=dict, repr=False)

    def render(self, given: frozenset[str]) -> Rendered:
        """Return the statement for one choice of parameters.

        :param given: the names of the parameters that have a value
        :returns: the statement, with the optional clauses whose parameter is given
        :raises QueryFileError: a parameter is missing or unknown
        """
        known = self._rendered.get(given)
        if known is not None:
            return known
        tokens = [token for conditions, token in self._tokens if conditions <= given]
        used = dict.fromkeys(token.name for token in tokens if token.kind == "parameter")
        taken = self.required.union(
            *(names for condition, names in self.clauses.items() if condition in given)
        )
        for problem, names in (
            ("needs", used.keys() - given),
            ("does not take", given - taken),
        ):
            if names:
                raise QueryFileError(f"query {self.name} {problem} {', '.join(sorted(names))}")
        # What is written out has the last numbers, so that without it the others have no gap.
        order = sorted(used, key=self._written.__contains__)
        sql, pieces, written = "", [""], list[str]()
        # After the first keyword: pg_stat_statements cuts off what stands before it.
        keyword = next((token for token in tokens if token.kind == "word"), None)
        for token in tokens:
            text = token.text
            if token is keyword:
                text += f" /* {self.name} */"
            elif token.kind == "parameter":
                text = f"${order.index(token.name) + 1}::{token.type}"
            sql += text
            if token.written:
                written.append(token.name)
                pieces.append("")
            else:
                pieces[-1] += text
        first, *after = (piece.encode() for piece in pieces)
        holes = tuple((n, self._written[n], a) for n, a in zip(written, after, strict=True))
        sent = tuple(name for name in order if name not in self._written)
        rendered = Rendered(sql, tuple(order), first, holes, sent)
        self._rendered[given] = rendered
        return rendered


def parse(name: str, sql: str, path: Path) -> Query:
    """Read one query file's text.

    :param name: the query's name, `subject/verb`
    :param sql: the file's text
    :param path: the file, for messages
    :returns: the query
    :raises QueryFileError: the file breaks a rule; the message has file and line
    """

    def refuse(line: int, problem: str) -> QueryFileError:
        return QueryFileError(f"{path}:{line}: {problem}")

    if "\0" in sql:
        raise refuse(sql.count("\n", 0, sql.index("\0")) + 1, "the file holds a NUL byte")
    summary, notes, body_at = _header(sql, path)
    first: dict[str, Token] = {}
    written: dict[str, tuple[str, ...]] = {}
    uses: dict[str | None, set[str]] = {None: set()}
    tokens: list[tuple[frozenset[str], Token]] = []
    opened: list[tuple[str, int]] = []  # condition and line of each \if that is not closed
    ended, line_start = False, True
    for token in tokenize(sql, path):
        if token.line < body_at:
            continue
        if ended and token.kind not in ("space", "line", "block"):
            raise refuse(token.line, "a query file holds one statement; this starts a second")
        match token.kind:
            case "command":
                if not line_start:
                    raise refuse(token.line, "a backslash command stands on a line of its own")
                if opening := _IF.fullmatch(token.text):
                    opened.append((opening[1], token.line))
                    uses.setdefault(opening[1], {opening[1]})
                elif _ENDIF.fullmatch(token.text):
                    if not opened:
                        raise refuse(token.line, "\\endif without \\if")
                    opened.pop()
                else:
                    raise refuse(
                        token.line,
                        f"{token.text.split()[0]} is not accepted here: a query file knows "
                        "\\if :{?name} and \\endif only",
                    )
                continue
            case "parameter":
                used = first.setdefault(token.name, token)
                if (used.type, used.written) != (token.type, token.written):
                    raise refuse(
                        token.line,
                        f"parameter {token.text} stands as {used.text} in line {used.line}",
                    )
                if token.written:
                    choices = notes[token.name].choices if token.name in notes else ()
                    if token.type == "text" and not choices:
                        raise refuse(
                            token.line,
                            f"parameter {token.text} needs a cast, or choices in the header",
                        )
                    written[token.name] = choices if token.type == "text" else ()
                uses[opened[-1][0] if opened else None].add(token.name)
            case "variable" | "positional":
                raise refuse(
                    token.line,
                    "a parameter is :'name'::type, a number :name, a choice of the header :'name'",
                )
            case "end":
                if opened:
                    raise refuse(token.line, f"the \\if of line {opened[-1][1]} is not closed")
                ended = True
                continue
            case _:
                pass
        if not ended:
            tokens.append((frozenset(condition for condition, _ in opened), token))
        line_start = (token.kind == "space" and "\n" in token.text) or (
            line_start and token.kind == "space"
        )
    last = sql.count("\n") + 1
    if opened:
        raise refuse(opened[-1][1], "this \\if is not closed")
    if not any(token.kind not in ("space", "line", "block") for _, token in tokens):
        raise refuse(last, "the file holds no statement")
    if not ended:
        raise refuse(last, "the statement does not end in a semicolon")
    required = frozenset(uses.pop(None))
    for name_ in uses:
        if name_ in required:
            raise refuse(1, f"parameter {name_} is optional in an \\if and used outside of it")
    types = {name_: token.type for name_, token in first.items()}
    if unknown := notes.keys() - types.keys() - uses.keys():
        raise refuse(1, f"the header explains {', '.join(sorted(unknown))}, which is no parameter")
    clauses = {
        condition: frozenset(names) for condition, names in uses.items() if condition is not None
    }
    for condition in clauses:
        types.setdefault(condition, "boolean")
    return Query(name, path, summary, notes, types, required, clauses, written, tuple(tokens))


def _header(sql: str, path: Path) -> tuple[str, dict[str, Note], int]:
    """Split off the header: its sentence, its notes by parameter, and the first line after it."""
    lines: list[str] = []
    for text in sql.split("\n"):
        match = _HEADER_LINE.fullmatch(text)
        if match is None:
            break
        lines.append(match[1].strip())
    sentence, _, rest = "\n".join(lines).partition("\n\n")
    summary = " ".join(sentence.split())
    if not summary.endswith((".", "?")):
        raise QueryFileError(
            f"{path}:1: the file starts with a comment whose first paragraph is a sentence "
            "saying what the query answers"
        )
    notes: dict[str, Note] = {}
    current = ""
    for text in rest.split("\n"):
        if match := _HEADER_PARAMETER.fullmatch(text):
            current = match[1]
            choices = tuple(match[3].split("|")) if match[3] else ()
            notes[current] = Note(match[4], match[2] or "", choices)
        elif current and text:
            notes[current] = replace(notes[current], text=f"{notes[current].text} {text}")
        else:
            current = ""
    return summary, notes, len(lines) + 1


def directory(name: str) -> Path:
    """Return the directory of shipped files called `name`.

    A wheel carries the directories inside the package; a checkout has them beside it.

    :param name: `schema`, `sql` or `examples`
    :raises FileNotFoundError: the installation lacks the directory
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        found = parent / name
        if found.is_dir():
            return found
    raise FileNotFoundError(f"the installation of butido_store has no directory {name!r}")


def read(path: Path, root: Path) -> Query:
    """Read and check one query file below `root`.

    :raises QueryFileError: the file is not there, is not UTF-8, or breaks a rule
    """
    name = path.relative_to(root).with_suffix("").as_posix()
    try:
        return parse(name, path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise QueryFileError(f"{path}:1: the file cannot be read: {error}") from error


def summary(name: str) -> str:
    """Return the sentence that the file of a shipped query begins with; the rest is not looked at.

    :param name: the query's name
    :raises QueryFileError: there is no such sentence
    """
    path = directory("sql") / f"{name}.sql"
    return _header(path.read_text(encoding="utf-8"), path)[0]


@cache
def query(name: str) -> Query:
    """Return the shipped query of this name.

    :param name: `subject/verb`, the path below `sql/` without its ending
    :raises QueryFileError: there is no such query, or its file breaks a rule
    """
    root = directory("sql")
    return read(root / f"{name}.sql", root)


@cache
def privileges(name: str) -> frozenset[tuple[str, str]]:
    """Return the privileges on tables that a shipped query needs, each with the table.

    Read from its text, which does not tell a table from a CTE, nor FROM from IS DISTINCT FROM: some
    of these tables are none.

    :param name: `subject/verb`, the path below `sql/` without its ending
    """
    tokens = [t for _, t in query(name)._tokens if t.kind not in ("space", "line", "block")]
    words = ["", "", *(token.text.upper() for token in tokens)]
    found: set[tuple[str, str]] = set()
    # What is read from, by the depth of parentheses; FOR UPDATE is of the last one.
    read: dict[int, str] = {}
    depth = 0
    for place, token in enumerate(tokens):
        before_last, before, word = words[place : place + 3]
        depth += (word == "(") - (word == ")")
        if word == "UPDATE" and before in ("FOR", "KEY"):
            found.add(("UPDATE", read[depth]))
        verb = {"INTO": "INSERT", "UPDATE": "UPDATE"}.get(before)
        if before in ("FROM", "JOIN", "USING"):
            verb = "DELETE" if before_last == "DELETE" else "SELECT"
        elif before == "UPDATE" and before_last in ("FOR", "KEY"):
            verb = None
        if verb and token.kind == "word":
            # RETURNING and conditions read what is written, too.
            found |= {(verb, token.text), ("SELECT", token.text)}
            read[depth] = token.text
    return frozenset(found)


def names(subject: str = "") -> list[str]:
    """Return the names of all shipped queries, sorted.

    :param subject: only those in this directory of `sql/`
    """
    root = directory("sql")
    found = (root / subject).rglob("*.sql")
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in found)
