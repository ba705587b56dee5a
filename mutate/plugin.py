"""What a worker does within pytest: it notes what each test uses, or runs tests against mutants.

All of it happens in one process, on one server: a mutant costs the time of its tests alone.
`BUTIDO_MUTATE` names the file that says what to do; results are appended to another one.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from butido_store import _query
from mutate.texts import put

_TASK: dict[str, Any] = json.loads(Path(os.environ["BUTIDO_MUTATE"]).read_text())
# More than the tests draw in one run: what is drawn once here is new in each run of theirs.
_EXAMPLES = 30
# After how many mutants a test has to pass, that noticed each of them.
_UNSETTLED = 8
_used: set[str] = set()
_failed: list[str] = []


def pytest_configure() -> None:
    """Draw the same examples each time, and make no failing one smaller."""
    settings.register_profile(
        "mutate",
        phases=(Phase.explicit, Phase.generate),
        database=None,
        derandomize=True,
        max_examples=_EXAMPLES if _TASK["mutants"] else settings().max_examples,
    )
    settings.load_profile("mutate")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what failed."""
    if report.failed:
        _failed.append(report.nodeid)


def _tell(**result: Any) -> None:
    with open(_TASK["results"], "a") as file:
        file.write(json.dumps(result) + "\n")


class _Nothing:
    """What follows a test, for pytest: something that shares only the session with it."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[pytest.Session]:
        """Return what stays set up."""
        return [self._session]


def _run(item: pytest.Item, *, last: bool = False) -> bool:
    """Run a test, and return whether it passed.

    :param last: take down what the whole session shares
    """
    _failed.clear()
    following = None if last else _Nothing(item.session)
    if hasattr(item, "_initrequest"):
        item._initrequest()  # as what runs tests again does
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    return not _failed


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run the tests of the task."""
    if session.testsfailed:
        raise session.Interrupted("errors during collection")
    if _TASK["mutants"] is None:
        _record(session.items)
    else:
        _kill(session.items)
    return True


# Which test uses what --------------------------------------------------------------------------


def _record(items: list[pytest.Item]) -> None:
    with _recording():
        for item in items:
            _used.clear()
            begun = time.monotonic()
            passed = _run(item, last=item is items[-1])
            seconds = round(time.monotonic() - begun, 3)
            _tell(test=item.nodeid, passed=passed, seconds=seconds, uses=sorted(_used))


@contextmanager
def _recording() -> Iterator[None]:
    """Note each query that is rendered, or each function of the mutated modules that is called."""
    if _TASK["kind"] == "python":
        from mutmut.mutation import trampoline

        def hit(name: str, **_: object) -> None:
            _used.add(name)

        trampoline.record_trampoline_hit = hit
        trampoline.set_mutant_under_test("stats")
        yield
        trampoline.set_mutant_under_test("")
        return
    render = _query.Query.render

    def noting(self: _query.Query, given: frozenset[str]) -> _query.Rendered:
        _used.add(self.name)
        return render(self, given)

    _query.Query.render = noting  # type: ignore[method-assign]
    yield
    _query.Query.render = render  # type: ignore[method-assign]


# Mutants -----------------------------------------------------------------------------------------


def _kill(items: list[pytest.Item]) -> None:
    known = {item.nodeid: item for item in items}
    # What has noticed one change of a file is the first to try on the next one.
    killers: dict[str, list[str]] = {}
    # What the last killer noticed, until it has passed since: what fails without the mutant as
    # well has killed nothing.
    noticed: list[dict[str, Any]] = []
    last: pytest.Item | None = None

    def settle(*, passed: bool = False) -> None:
        if noticed and last and not (passed or _run(last)):
            with suppress(Exception):
                # Ends the server, too.
                last.session._setupstate.teardown_exact(None)
            os._exit(3)
        while noticed:
            _tell(**noticed.pop(0))

    # Opens the server and its databases as they are: what is set up once stays so.
    _run(next((one for one in items if "dsn" in getattr(one, "fixturenames", ())), items[0]))
    for mutant in _TASK["mutants"]:
        first = killers.setdefault(mutant["uses"], [])
        tests = [known[name] for name in dict.fromkeys([*first, *mutant["tests"]]) if name in known]
        if tests[:1] != [last] or len(noticed) == _UNSETTLED:
            settle()
        begun = time.monotonic()
        killer, late = None, False
        with _mutated(mutant):
            for test in tests:
                if not _run(test):
                    killer = test
                    first[:] = [test.nodeid, *(name for name in first if name != test.nodeid)]
                    break
                late = time.monotonic() - begun > _TASK["limit"]
                if late:
                    break
        if killer is not last:
            settle(passed=tests[:1] == [last])
            last = killer
        outcome = "killed" if killer else "late" if late else "survived" if tests else "untested"
        by = killer.nodeid if killer else ""
        noticed.append({"number": mutant["number"], "outcome": outcome, "by": by})
        if killer is None:
            settle()
    settle()
    _run(items[0], last=True)


@contextmanager
def _mutated(mutant: dict[str, Any]) -> Iterator[None]:
    """Put a mutant in its place: on disk for psql, and in each step that was made of the query."""
    if _TASK["kind"] == "python":
        from mutmut.mutation.trampoline import set_mutant_under_test

        set_mutant_under_test(mutant["name"])
        yield
        set_mutant_under_test("")
        return
    query = _query.query(mutant["name"])
    original = query.path.read_text()
    try:
        _replace(query, mutant["text"])
        yield
    finally:
        _replace(query, original)


def _replace(query: _query.Query, text: str) -> None:
    query.path.write_text(text)
    put(query, text)
