"""What reuse saved, beside the same in plain Python."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from commandline import Shell
from hypothesis import given
from hypothesis import strategies as st
from samples import TIME, create, finish, start
from stores import windows

from butido_store import Store, open_schema, report, submit, uuid7
from butido_store.errors import InvalidInput

# How many of the newest jobs and hits are looked at here, in place of the number in the files.
JOBS_LOOKED_AT, HITS_LOOKED_AT, HITS_OF_PACKAGE = 4, 3, 2
# Start and length in hours of the jobs of three packages; times meet the edges of days and weeks.
JOBS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([-168, -25, -24, -12, 0, 11.999, 12, 24, 156, 168]),
        st.sampled_from([-2, 0, 1.5]),
        st.sampled_from(["success", "success", "error", "lost", "running"]),
    ),
    min_size=1,
    max_size=10,
)
HOURS = st.sampled_from([-25, -24, -12, 0, 12, 24, 36])
BOUND = st.none() | HOURS


def at(hours: float) -> datetime:
    """Return a time so many hours after Monday noon."""
    return TIME + timedelta(hours=hours)


def beginning(when: datetime, per: str | None) -> datetime | None:
    """Return when the period began, written a second time."""
    if per is None:
        return None
    day = datetime(when.year, when.month, when.day, tzinfo=UTC)
    return day - timedelta(days=day.weekday() if per == "week" else 0)


def test_savings_are_what_they_are_in_python(dsn: str, schema: str) -> None:
    @given(
        jobs=JOBS,
        reuses=st.lists(st.tuples(st.integers(0, 9), HOURS), max_size=12),
        package=st.none() | st.sampled_from("abc"),
        per=st.sampled_from([None, "day", "week"]),
        newer_than=BOUND,
        older_than=BOUND,
        limit=st.sampled_from([None, 0, 1, 3]),
    )
    def check(
        jobs: Any, reuses: Any, package: Any, per: Any, newer_than: Any, older_than: Any, limit: Any
    ) -> None:
        with connection.transaction(force_rollback=True):
            run_by, uuids = uuid7(), [uuid7() for _ in jobs]
            store.run(create(run_by))
            for uuid, (name, hours, length, state) in zip(uuids, jobs, strict=True):
                store.run(start(uuid, run_by, package=name, started_at=at(hours)))
                if state != "running":
                    store.run(finish(uuid, state=state, finished_at=at(hours + length)))
            hits = []
            done = [n for n, one in enumerate(jobs) if one[3] == "success"]
            for number, hours in reuses:
                if done:
                    place = done[number % len(done)]
                    other = uuid7()
                    store.run(
                        create(other), submit.reuse(other, [uuids[place]], timestamp=at(hours))
                    )
                    hits.append((place, at(hours), other))

            def within(name: str, when: datetime) -> bool:
                return (
                    package in (None, name)
                    and (newer_than is None or when >= at(newer_than))
                    and (older_than is None or when < at(older_than))
                )

            saved = {n: max(one[2], 0) * 3600 for n, one in enumerate(jobs)}
            hits = [hit for hit in hits if within(jobs[hit[0]][0], hit[1])]
            starts = sorted(
                at(hours)
                for name, hours, _, _ in jobs
                if package in (None, name) and (older_than is None or hours < older_than)
            )
            since = starts[-JOBS_LOOKED_AT:][0] if starts and newer_than is None else at(-9999)
            counted: dict[Any, list[float]] = defaultdict(lambda: [0, 0, 0])
            for n, when, _ in hits:
                if when < since:
                    continue
                row = counted[beginning(when, per), jobs[n][0]]
                row[0] += 1
                row[2] += saved[n]
            for name, hours, _, _ in jobs:
                if within(name, at(hours)) and at(hours) >= since:
                    counted[beginning(at(hours), per), name][1] += 1
            expected = [
                report.Savings(name, period, int(h), int(m), h / (h + m), s)
                for (period, name), (h, m, s) in counted.items()
            ]
            expected.sort(
                key=lambda r: (r.period and -r.period.timestamp(), -r.seconds_saved, r.package)
            )
            asked: dict[str, Any] = {
                "package": package,
                "newer_than": None if newer_than is None else at(newer_than),
                "older_than": None if older_than is None else at(older_than),
                "limit": limit,
            }
            with windows("savings", {10_000: JOBS_LOOKED_AT}):
                assert store.run(report.savings(per=per, **asked)) == expected[:limit]

            times: dict[int, list[datetime]] = defaultdict(list)
            hits.sort(key=lambda hit: (hit[1], uuids[hit[0]], hit[2]), reverse=True)
            newest = HITS_LOOKED_AT if package is None else HITS_OF_PACKAGE
            for n, when, _ in hits[: newest if newer_than is None else None]:
                times[n].append(when)
            best = [
                (uuids[n], jobs[n][0], len(each), len(each) * saved[n], max(each))
                for n, each in times.items()
            ]
            best.sort(key=lambda row: (-row[3], row[0]))
            with windows("reused", {10_000: HITS_LOOKED_AT, 5_000: HITS_OF_PACKAGE}):
                rows = store.run(report.reused(**asked))
            assert [
                (r.job_uuid, r.package, r.reuses, r.seconds_saved, r.last_reused_at) for r in rows
            ] == best[:limit]

    with psycopg.connect(dsn, autocommit=True) as connection:
        open_schema(connection, schema)
        store = Store(connection)
        check()


@pytest.mark.parametrize("per", ["month", "Day", ""])
def test_a_period_is_one_of_two(per: Any, shell: Shell) -> None:
    with pytest.raises(InvalidInput, match="per"):
        report.savings(per=per)
    assert shell("savings", "--per", per).exit_code == 2
