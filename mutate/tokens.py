"""Mutants of a query file, each one small change of its tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from butido_store._query import Token, parse, tokenize
from butido_store.errors import QueryFileError

_BLANK = ("space", "line", "block")
_COMPARED = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "=": ("<>",),
    "<>": ("=",),
}
_SWAPPED = {
    "ASC": "DESC",
    "DESC": "ASC",
    "OR": "AND",
    "TRUE": "FALSE",
    "FALSE": "TRUE",
    "LEAST": "greatest",
    "GREATEST": "least",
    "MIN": "max",
    "MAX": "min",
    "BOOL_AND": "bool_or",
    "BOOL_OR": "bool_and",
    "FULL": "LEFT",
    "EXCEPT": "UNION",
}
# What ends a condition, or a list of keys, at its own depth of parentheses.
_CONDITION_ENDS = frozenset(
    (
        *("AND", "OR", "WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "FOR", "RETURNING"),
        *("UNION", "EXCEPT", "INTERSECT", "JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS"),
        *("THEN", "ELSE", "WHEN", "END", "ON", "DO", "AS", "FROM"),
    )
)
_KEYS_END = frozenset(("LIMIT", "FOR", "ON", "RETURNING", "UNION", "EXCEPT", "ROWS", "RANGE"))
_OPERATOR = frozenset("<>=!@#&|~?^*/%+-")


@dataclass(frozen=True, slots=True)
class _Edit:
    """Tokens from `start` up to `end`, and what stands there instead."""

    start: int
    end: int
    text: str


def mutants(sql: str, name: str, path: Path) -> Iterator[str]:
    """Yield the text of each mutant of a file that is still a query file.

    :param sql: the file's text
    :param name: the query's name
    :param path: the file, for messages
    """
    tokens = [*tokenize(sql, path)]
    seen = {sql}
    for edit in _edits([*_significant(tokens)], tokens):
        texts = [token.text for token in tokens]
        texts[edit.start : edit.end] = [edit.text]
        mutant = "".join(texts)
        if mutant not in seen:
            seen.add(mutant)
            try:
                parse(name, mutant, path)
            except QueryFileError:
                continue
            yield mutant


def _significant(tokens: Sequence[Token]) -> Iterator[tuple[int, int, Token, str]]:
    """Yield the place, the depth, and the upper-case text of what is no comment or space."""
    depth = 0
    for place, token in enumerate(tokens):
        if token.kind in _BLANK:
            continue
        depth -= token.text in (")", "]")
        yield place, depth, token, token.text.upper()
        depth += token.text in ("(", "[")


def _edits(
    found: Sequence[tuple[int, int, Token, str]], tokens: Sequence[Token]
) -> Iterator[_Edit]:
    words = [word for *_, word in found]
    between: set[int] = set()
    # At which depth a "=" assigns.
    assigned: int | None = None
    for at, (place, depth, token, word) in enumerate(found):
        before = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        if word == "SET" and before not in ("KEY", "DO"):
            assigned = depth
        elif word in ("FROM", "WHERE", "RETURNING") and depth == assigned:
            assigned = None
        if token.kind == "other":
            if depth != assigned:
                yield from _compared(place, tokens)
            if word in "+-" and before not in ("(", ",", "=", "||") and after != ">":
                yield _Edit(place, place + 1, "-" if word == "+" else "+")
        elif token.kind == "number" and word.isdigit() and before != "SELECT":
            for number in (int(word) + 1, int(word) - 1):
                # ORDER BY x.uuid LIMIT 1
                one = before == "LIMIT" and words[at - 6 : at - 4] == ["ORDER", "BY"]
                if number == 0 or not (one and _sorts_one_row(found, at - 5, depth)):
                    yield _Edit(place, place + 1, str(number))
        elif token.kind == "command" and word.startswith("\\IF"):
            end = _closing(found, at)
            yield _Edit(place + 1, found[end][0], "\n")
        elif token.kind == "word":
            if word in _SWAPPED and not (
                word in ("MIN", "MAX", "LEAST", "GREATEST") and after != "("
            ):
                yield _Edit(place, place + 1, _SWAPPED[word])
            if word == "BETWEEN":
                between.add(depth)
            elif word == "AND" and depth in between:
                between.discard(depth)
            elif word == "AND":
                yield _Edit(place, place + 1, "OR")
                yield _Edit(place, _last(found, at + 1, depth), "")
            elif word in ("WHERE", "HAVING", "ON") and before not in ("CONFLICT", "DISTINCT"):
                if after not in ("CONFLICT", "TRUE"):
                    yield _Edit(found[at + 1][0], _last(found, at + 1, depth), "TRUE")
            elif word == "BY" and before == "ORDER":
                if not _sorts_one_row(found, at, depth):
                    yield from _keys(found, at + 1, depth)
            elif word == "JOIN" and _finds_its_row(found, at):
                continue
            elif word == "JOIN" and before not in ("LEFT", "CROSS", "FULL", "RIGHT", "INNER"):
                yield _Edit(place, place + 1, "LEFT JOIN")
            elif word == "LEFT" and after == "JOIN":
                yield _Edit(place, place + 1, "")
            elif word == "EXISTS" and before != "NOT":
                yield _Edit(place, place + 1, "NOT EXISTS")
            elif word == "NOT" and before not in ("DO", "IF", "IS") and after != "MATERIALIZED":
                yield _Edit(place, place + 1, "")
            elif word == "IS":
                end = place + 1
                yield _Edit(place, found[at + 1][0] + 1 if after == "NOT" else end, _is(after))
            elif word == "DISTINCT" and before != "IS" and after != "FROM":
                yield _Edit(place, place + 1, "")
            elif word == "UNION":
                end = found[at + 1][0] + 1 if after == "ALL" else place + 1
                yield _Edit(place, end, "UNION" if after == "ALL" else "UNION ALL")
            elif word in ("COALESCE", "NULLIF") and after == "(":
                yield from _first_argument(found, at + 1, place, tokens)


def _last(found: Sequence[tuple[int, int, Token, str]], at: int, depth: int) -> int:
    """Return the place after the last token of the condition that begins here."""
    return found[_end(found, at, depth, _CONDITION_ENDS) - 1][0] + 1


def _finds_its_row(found: Sequence[tuple[int, int, Token, str]], at: int) -> bool:
    """Return whether a JOIN looks up what a foreign key, never NULL, says is there."""
    # JOIN x AS y ON y.id = z.x_id
    words = [word for *_, word in found[at + 1 : at + 12]]
    return (
        words[1:2] == ["AS"]
        and words[4:8] == [words[2], ".", "ID", "="]
        and words[10].endswith("_ID")
        and (len(words) < 12 or words[11] != "AND")
    )


def _sorts_one_row(found: Sequence[tuple[int, int, Token, str]], at: int, depth: int) -> bool:
    """Return whether an ORDER BY has one key, which the WHERE before it compares with one value."""
    # WHERE x.uuid = … ORDER BY x.uuid
    start = at
    while start and found[start - 1][1] >= depth and found[start - 1][3] != "SELECT":
        start -= 1
    end = _end(found, at + 1, depth, _KEYS_END)
    key = [word for *_, word in found[at + 1 : end]]
    words = [word if deep == depth else "" for _, deep, _, word in found[start:at]]
    if len(key) != 3 or found[end][3] == "," or "OR" in words or "UNION" in words:
        return False
    return any(
        words[place] in ("WHERE", "AND") and words[place + 1 : place + 5] == [*key, "="]
        for place in range(len(words) - 4)
    )


def _is(after: str) -> str:
    return "IS" if after == "NOT" else "IS NOT"


def _compared(place: int, tokens: Sequence[Token]) -> Iterator[_Edit]:
    """Yield the edits of the comparison that begins here."""
    first = place
    while first and tokens[first - 1].kind == "other" and tokens[first - 1].text in _OPERATOR:
        first -= 1
    end = place
    while end < len(tokens) and tokens[end].kind == "other" and tokens[end].text in _OPERATOR:
        end += 1
    operator = "".join(token.text for token in tokens[first:end])
    if first == place:
        for other in _COMPARED.get(operator, ()):
            yield _Edit(first, end, other)


def _closing(found: Sequence[tuple[int, int, Token, str]], at: int) -> int:
    """Return the place of the \\endif of an \\if."""
    depth = 0
    for end in range(at, len(found)):
        word = found[end][3]
        depth += word.startswith("\\IF") - word.startswith("\\ENDIF")
        if not depth:
            return end
    raise ValueError("an \\if is not closed")


def _end(
    found: Sequence[tuple[int, int, Token, str]], at: int, depth: int, ends: frozenset[str]
) -> int:
    """Return where the condition or key that begins here ends."""
    between = False
    for end in range(at, len(found)):
        _, deep, token, word = found[end]
        if deep < depth or token.kind == "end" or (token.kind == "command" and deep == depth):
            return end
        if deep == depth and (word == "," or word in ends) and end > at:
            if word == "AND" and between:
                between = False
                continue
            if word in ("LEFT",) and found[end + 1][3] == "(":
                continue
            if word == "FROM" and found[end - 1][3] == "DISTINCT":
                continue
            return end
        between = between or (word == "BETWEEN" and deep == depth)
    return len(found) - 1


def _keys(found: Sequence[tuple[int, int, Token, str]], at: int, depth: int) -> Iterator[_Edit]:
    """Yield the edits of what is sorted by, each key the other way round."""
    while True:
        end = _end(found, at, depth, _KEYS_END)
        last = found[end - 1]
        if last[3] not in ("ASC", "DESC"):
            yield _Edit(last[0] + 1, last[0] + 1, " DESC")
        if found[end][3] != "," or found[end][1] != depth:
            return
        at = end + 1


def _first_argument(
    found: Sequence[tuple[int, int, Token, str]], at: int, place: int, tokens: Sequence[Token]
) -> Iterator[_Edit]:
    """Yield the edit that leaves a call's first argument alone, in its parentheses."""
    depth, comma = found[at][1], None
    for end, deep, _, word in found[at + 1 :]:
        if comma is None and word == "," and deep == depth + 1:
            comma = end
        if deep == depth:
            if comma is not None:
                first = "".join(token.text for token in tokens[found[at][0] : comma])
                yield _Edit(place, end + 1, f"{first})")
            return
