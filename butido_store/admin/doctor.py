"""Tell whether all is well with a store: a check for each file in `sql/doctor/`.

`check("transactions", seconds=60)` asks what `psql -v seconds=60 -f sql/doctor/transactions.sql`
asks, and `butido-store doctor --only transactions --limit transactions.seconds=60`. A file that is
added there is a check.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from butido_store import _check
from butido_store._query import names, query
from butido_store._statement import Rows, Statement, read, typed
from butido_store.errors import PermissionDenied
from butido_store.report import Metric
from butido_store.store import Store

Verdict = Literal["bad", "warn", "unknown", "ok"]
"""What a check says, the worst first; `unknown` where the role, or a standby, cannot see."""

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_STATUS: Mapping[Verdict, int] = {"ok": 0, "warn": 1, "bad": 2, "unknown": 3}
_HELP = "What a check says: 0 ok, 1 warn, 2 bad, 3 unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found of one object.

    `value` stands beside the `limit` that it is held against; `number` is the value in bytes,
    seconds or rows, where it is one. `advice` says what to do unless all is well.
    """

    check: str
    verdict: Verdict
    object: str
    value: str | None
    limit: str | None
    advice: str | None
    number: float | None


def checks() -> list[str]:
    """Return the names of all checks, sorted."""
    return [name.partition("/")[2] for name in names("doctor")]


def check(name: str, /, **limits: int) -> Statement[list[Finding]]:
    """Ask one check.

    :param name: of the check, as of its file
    :param limits: those that its file names; for the others it has defaults
    :returns: a statement that gives what was found, the worst first, at least one finding
    :raises InvalidInput: there is no such check or limit, or a limit is no whole number from 0 on
    """
    file = query(f"doctor/{_check.choice('name', name, checks())}")
    for limit, value in limits.items():
        _check.count(f"{name}.{_check.choice(f'a limit of {name}', limit, [*file.types])}", value)

    def collect(rows: Rows) -> list[Finding]:
        found = typed(Finding, [(name, *row) for row in rows])
        return sorted(found, key=lambda one: _VERDICTS.index(one.verdict))

    return read(file.name, limits, collect)


def examine(
    store: Store,
    *,
    only: Collection[str] = (),
    limits: Mapping[str, Mapping[str, int]] | None = None,
) -> list[Finding]:
    """Ask all checks, one after the other.

    :param store: the store, on the primary or on a standby
    :param only: names of checks, if not all of them
    :param limits: by the check's name, and in it by the limit's
    :returns: what was found, by check and the worst first. Of a check that finds all well it is the
        first object, which is nearest to its limit. Where the role may not read what a check reads,
        its verdict is `unknown`
    :raises InvalidInput: there is no such check or limit, a limit is no whole number from 0 on, or
        the store is something else
    """
    _check.instance("store", store, Store)
    known, limits = checks(), limits or {}
    for field, given in (("only", only), ("limits", limits)):
        for name in given:
            _check.choice(field, name, known)
    # All of them before the first is asked, so that a wrong limit is told at once.
    asked = {name: check(name, **limits.get(name, {})) for name in known}
    found: list[Finding] = []
    for name in only or known:
        try:
            rows = store.run(asked[name])
        except PermissionDenied as error:
            rows = [Finding(name, "unknown", "all", None, None, str(error), None)]
        found += [row for row in rows if row.verdict != "ok"] or rows[:1]
    return found


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict of all.

    :param findings: as `examine` gives them
    :returns: a verdict, `ok` if nothing was found
    """
    return min((one.verdict for one in findings), key=_VERDICTS.index, default="ok")


def status(findings: Iterable[Finding]) -> int:
    """Return the worst verdict as the exit status of a monitoring plugin.

    The numbers are those of https://www.monitoring-plugins.org/doc/guidelines.html.

    :param findings: as `examine` gives them
    :returns: 0 ok, 1 warn, 2 bad, 3 unknown
    """
    return _STATUS[worst(findings)]


def metrics(findings: Iterable[Finding]) -> list[Metric]:
    """Return what was found in the terms of Prometheus.

    :param findings: as `examine` gives them
    :returns: the status of each check, and the number of each finding that has one
    """
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.check, []).append(one)
    return [
        Metric("butido_check", {"check": name}, status(ones), _HELP) for name, ones in found.items()
    ] + [
        Metric(
            "butido_check_value",
            {"check": name, "object": one.object},
            one.number,
            "What a check found, in bytes, seconds or rows",
        )
        for name, ones in found.items()
        for one in ones
        if one.number is not None
    ]
