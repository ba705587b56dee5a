"""The header of a migration's file: what the file says that it does, read strictly.

It is held against what the migration is seen to do, so nothing in it is free text but what stands
in parentheses.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from butido_store.errors import MigrationError

Phase = Literal["pre", "post"]

MODES = (
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
"""The locks of a table, each at least as strong as the one before."""

# Which locks have to wait for one that is held: table 13.2 of PostgreSQL's documentation.
_CONFLICTS = {
    "ACCESS SHARE": MODES[7:],
    "ROW SHARE": MODES[6:],
    "ROW EXCLUSIVE": MODES[4:],
    "SHARE UPDATE EXCLUSIVE": MODES[3:],
    "SHARE": (*MODES[2:4], *MODES[5:]),
    "SHARE ROW EXCLUSIVE": MODES[2:],
    "EXCLUSIVE": MODES[1:],
    "ACCESS EXCLUSIVE": MODES,
}
_FIELDS = ("Phase", "Locks", "Duration", "Rollback")
_FIELD = re.compile(r"(\w+):(?:[ \t]+|$)")
_REMARK = re.compile(r"(?P<value>[^()]*?)\s*(?:\((?P<remark>.+)\))?", re.S)
_NAME = r"[a-z_][a-z0-9_]*"
_TABLES = rf"{_NAME}(?:, {_NAME})*"
_LOCK = re.compile(rf"(?P<mode>{'|'.join(MODES)}) on (?P<tables>{_TABLES})")
_WORK = re.compile(rf"(?P<verb>scans|rewrites) (?P<tables>{_TABLES})")
_COST = re.compile(
    r"(?P<time>[0-9.]+) (?P<unit>ms|s|min|h) and (?P<size>[0-9.]+) (?P<bytes>kB|MB|GB|TB) of WAL"
    r" on (?P<jobs>[0-9.]+) (?P<many>[kM]) jobs"
)
_UNITS = {
    "ms": 0.001, "s": 1, "min": 60, "h": 3600, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
    "k": 1e3, "M": 1e6,
}  # fmt: skip
_ROLLBACK = re.compile(r"lossless|loses \S.*|impossible", re.S)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a migration that grows with the store was measured to take, on so many jobs."""

    seconds: float
    wal_bytes: float
    jobs: float


@dataclass(frozen=True, slots=True)
class Header:
    """What a migration says of itself; without a cost it takes an instant at any size."""

    phase: Phase
    locks: Mapping[str, str]  # the strongest one, by table that was there before
    scans: frozenset[str]
    rewrites: frozenset[str]
    cost: Cost | None
    duration: str
    rollback: str

    @property
    def lossless(self) -> bool:
        """Tell whether a rollback loses no record."""
        return self.rollback == "lossless"


def parse(comment: str, path: Path) -> Header:
    """Read the header of a migration.

    :param comment: the comment that the file starts with
    :param path: the file, for messages
    :raises MigrationError: a field is missing, or is not of the form that `schema/README.md` gives
    """
    paragraphs = comment.strip().split("\n\n")
    if not paragraphs[0].endswith(".") or _FIELD.match(paragraphs[0]):
        raise MigrationError(f"{path}: the file starts with a comment that is a sentence")
    notes = next((text for text in paragraphs if _FIELD.match(text)), "")
    fields: dict[str, str] = {}
    name = ""
    for line in notes.splitlines():
        if field := _FIELD.match(line):
            name = field[1]
            if name in fields or name not in _FIELDS:
                raise MigrationError(
                    f"{path}: the header has {name} twice, or there is no such field"
                )
            fields[name] = line[field.end() :].strip()
        else:
            fields[name] += f" {line.strip()}"
    if missing := [name for name in _FIELDS if not fields.get(name)]:
        raise MigrationError(f"{path}: the header has no {', '.join(missing)}")
    values = {name: _value(name, text, path) for name, text in fields.items()}
    phase = next((one for one in get_args(Phase) if one == values["Phase"]), None)
    if phase is None:
        raise MigrationError(f"{path}: the phase is pre or post, not {values['Phase']}")
    if not _ROLLBACK.fullmatch(values["Rollback"]):
        raise MigrationError(
            f"{path}: Rollback is lossless, loses … or impossible, not {values['Rollback']}"
        )
    scans, rewrites, cost = _duration(values["Duration"], path)
    return Header(
        phase=phase,
        locks=_locks(values["Locks"], path),
        scans=scans,
        rewrites=rewrites,
        cost=cost,
        duration=values["Duration"],
        rollback=values["Rollback"],
    )


def strongest(modes: Iterable[str]) -> str:
    """Return the strongest of some locks.

    :param modes: of `MODES`, at least one
    :returns: the one that stands last there
    """
    return max(modes, key=MODES.index)


def conflicts(mode: str) -> tuple[str, ...]:
    """Return the locks that a lock cannot be had beside, and that cannot be had beside it.

    https://www.postgresql.org/docs/current/explicit-locking.html has the table.

    :param mode: of `MODES`
    :returns: of `MODES`
    """
    return _CONFLICTS[mode]


def pg_mode(mode: str) -> str:
    """Return a lock's name in pg_locks.

    :param mode: of `MODES`
    :returns: such as `AccessShareLock`
    """
    return f"{mode.title().replace(' ', '')}Lock"


def said(locks: Mapping[str, str]) -> str:
    """Return locks as a header says them.

    :param locks: the strongest lock by table
    :returns: the strongest first, each with its tables; `none` if there is none
    """
    by_mode: dict[str, list[str]] = {}
    for table, mode in sorted(locks.items()):
        by_mode.setdefault(mode, []).append(table)
    ordered = sorted(by_mode.items(), key=lambda item: -MODES.index(item[0]))
    return "; ".join(f"{mode} on {', '.join(tables)}" for mode, tables in ordered) or "none"


def _value(name: str, text: str, path: Path) -> str:
    """Return a field without the remark at its end."""
    match = _REMARK.fullmatch(text)
    if match is None:
        raise MigrationError(f"{path}: after its remark in parentheses, {name} has to end: {text}")
    return match["value"]


def _locks(text: str, path: Path) -> dict[str, str]:
    """Return the lock on each table."""
    locks: dict[str, str] = {}
    for part in () if text == "none" else text.split("; "):
        lock = _LOCK.fullmatch(part)
        tables = lock["tables"].split(", ") if lock else []
        if lock is None or not locks.keys().isdisjoint(tables):
            raise MigrationError(
                f"{path}: Locks is none, or MODE on table, table; MODE on table, each table once "
                f"with its strongest lock; {part!r} is not"
            )
        locks |= dict.fromkeys(tables, lock["mode"])
    return locks


def _duration(text: str, path: Path) -> tuple[frozenset[str], frozenset[str], Cost | None]:
    """Return which tables are scanned, which are rewritten, and what that was measured to take."""
    if text == "instant":
        return frozenset(), frozenset(), None
    *work, measured = text.split("; ")
    done = [_WORK.fullmatch(part) for part in work]
    cost = _COST.fullmatch(measured)
    if not work or cost is None or not all(done):
        raise MigrationError(
            f"{path}: Duration is instant, or what grows with the store and what was measured, as "
            f"in `scans job; 41 s and 300 MB of WAL on 10 M jobs`, not {text}"
        )
    tables: dict[str, set[str]] = {"scans": set(), "rewrites": set()}
    for one in filter(None, done):
        tables[one["verb"]].update(one["tables"].split(", "))
    return (
        frozenset(tables["scans"]),
        frozenset(tables["rewrites"]),
        Cost(
            float(cost["time"]) * _UNITS[cost["unit"]],
            float(cost["size"]) * _UNITS[cost["bytes"]],
            float(cost["jobs"]) * _UNITS[cost["many"]],
        ),
    )
