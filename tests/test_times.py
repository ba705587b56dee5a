"""A time that some time zone cannot show is refused where it is said; a bound may be any time."""

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial, reduce
from operator import and_, or_
from typing import Any
from uuid import RFC_4122

import psycopg
import pytest
from conftest import AnyStore
from filled import REPORTS, WRITTEN
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors, sql
from samples import create, ended, start
from test_bad_input import TAKEN, public

from butido_store import job, report, uuid7
from butido_store.errors import InvalidInput

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 59, 59, 999999, UTC)
MOMENT = timedelta(microseconds=1)
EAST, WEST = timezone(timedelta(hours=23)), timezone(timedelta(hours=-23))
# What the year as it is written would let pass, or keep out, and what UTC cannot hold.
OUTSIDE = [
    FIRST - MOMENT,
    FIRST.replace(tzinfo=EAST),
    LAST + MOMENT,
    LAST.replace(tzinfo=WEST),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    datetime.max.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=EAST),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
    datetime.min.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=WEST),
]
WITHIN = [FIRST, FIRST.astimezone(WEST), LAST, LAST.astimezone(EAST)]


def said() -> Iterator[tuple[str, str]]:
    """Yield each parameter of a public function that is a time."""
    for name, values in TAKEN.items():
        yield from ((name, field) for field, value in values.items() if isinstance(value, datetime))


def call(name: str, field: str, time: datetime) -> Any:
    """Call a public function with a time in that field."""
    return public(name)(**{**TAKEN[name], field: time})


WRITING = [one for one in said() if not one[0].startswith("report.")]


def test_statements_and_reports_take_times() -> None:
    assert {name for name, _ in WRITING} >= {"submit.create", "job.start", "job.finish"}
    assert len([*said()]) > len(WRITING) + 5


@pytest.mark.parametrize(("name", "field"), WRITING)
def test_a_time_is_one_that_every_time_zone_can_show(name: str, field: str) -> None:
    for time in OUTSIDE:
        with pytest.raises(InvalidInput, match=f"{field} is .*1970 to 9998"):
            call(name, field, time)
    for time in WITHIN:
        call(name, field, time)


@pytest.mark.parametrize("field", ["started_at", "finished_at"])
def test_so_is_that_of_a_job_that_has_ended(field: str) -> None:
    for time in OUTSIDE:
        one = ended(uuid7(), uuid7(), **{field: time})
        for record in (job.record, lambda changed: job.record_all([changed])):
            with pytest.raises(InvalidInput, match=f"{field} is .*1970 to 9998"):
                record(one)


@given(
    time=st.datetimes(timezones=st.timezones() | st.sampled_from([EAST, WEST])),
    at=st.sampled_from([FIRST, LAST]),
    off=st.integers(-(10**12), 10**12),
    zone=st.timezones(),
)
def test_what_is_taken_is_within(time: datetime, at: datetime, off: int, zone: Any) -> None:
    with_edge = [time]
    moved = at + timedelta(microseconds=off)
    with_edge.append(moved.astimezone(zone))
    for one in with_edge:
        try:
            create(uuid7(), timestamp=one)
        except InvalidInput:
            assert not FIRST <= one <= LAST
        else:
            assert FIRST <= one <= LAST


def test_the_first_and_the_last_come_back(
    store: AnyStore, connection: psycopg.Connection[Any]
) -> None:
    for at in (FIRST, LAST):
        of_submit, uuid = uuid7(), uuid7()
        store.run(create(of_submit, timestamp=at), start(uuid, of_submit, started_at=at))
        assert store.run(job.get(uuid)).started_at == at
        assert [found.timestamp for found in store.run(report.submits(newer_than=at))][-1] == at
    for zone in ("Etc/GMT+12", "Etc/GMT-14"):
        connection.execute("SELECT set_config('TimeZone', %s, false)", [zone])
        found = connection.execute("SELECT timestamp FROM submit ORDER BY timestamp").fetchall()
        assert found == [(FIRST,), (LAST,)]


@pytest.mark.parametrize("name", [name for name in REPORTS if "newer_than" in REPORTS[name]])
def test_a_bound_may_be_any_time(name: str, store: AnyStore) -> None:
    store.run(*WRITTEN)
    ask = getattr(report, name)
    given = {**REPORTS[name]}
    fields = inspect.signature(ask).parameters.keys() & {"newer_than", "older_than", "before_at"}
    within = store.run(ask(**given))
    assert within
    for time in OUTSIDE:
        for field in fields:
            keeps = (time < FIRST) == (field == "newer_than")
            found = store.run(ask(**{**given, field: time}))
            assert found == within if keeps else found == [], (field, time)


@pytest.mark.parametrize("time", ["1969-12-31 23:59:59.999999Z", "9999-01-01Z", "infinity"])
def test_so_it_is_in_every_table(connection: psycopg.Connection[Any], time: str) -> None:
    columns = connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND data_type = 'timestamp with time zone'"
        " AND table_name NOT LIKE '%yoyo%' AND table_name NOT LIKE '%migration%'"
        # A walk begins after all times.
        " AND table_name <> 'retention_walk'"
        " AND (table_schema, table_name) IN"
        " (SELECT table_schema, table_name FROM information_schema.tables"
        "  WHERE table_type = 'BASE TABLE')"
    ).fetchall()
    assert len(columns) >= 6
    for table, column in columns:
        # As a row would have it, whatever else it has to have.
        statement = sql.SQL("CREATE TEMP TABLE one AS SELECT {} FROM {} WITH NO DATA").format(
            sql.Identifier(column), sql.Identifier(table)
        )
        connection.execute(statement)
        with pytest.raises(errors.CheckViolation), connection.transaction():
            connection.execute(sql.SQL("INSERT INTO one VALUES ({})").format(time))
        connection.execute(sql.SQL("INSERT INTO one VALUES ('9998-12-31 23:59:59.999999Z')"))
        connection.execute("DROP TABLE one")


def test_a_uuid_has_the_time_of_its_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """By RFC 9562: milliseconds, the version, the rest of the time, the variant, and chance."""
    for milliseconds in (1_763_899_200_123, 2**48 + 5):
        for rest, fraction in [(0, 0), (244, 0), (245, 1), (500_000, 0x800), (999_999, 0xFFF)]:
            now = milliseconds * 1_000_000 + rest
            monkeypatch.setattr("time.time_ns", partial(int, now))
            made = [uuid7() for _ in range(64)]
            assert {(one.int >> 80, one.version, one.int >> 64 & 0xFFF) for one in made} == {
                (milliseconds % 2**48, 7, fraction)
            }
            assert {one.variant for one in made} == {RFC_4122}
            chance = [one.int & 2**62 - 1 for one in made]
            assert len({*chance}) == len(chance)
            # Each bit is set in some, and not in others.
            assert (reduce(or_, chance), reduce(and_, chance)) == (2**62 - 1, 0)
