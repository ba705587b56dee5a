"""Nothing goes round in a circle: no package, planned job or file needs itself by way of others."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any
from uuid import UUID

import networkx as nx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended, finish, sha256, start

from butido_store import Statement, Store, artifact, job, report, uuid7
from butido_store._check import circle
from butido_store.artifact import Output
from butido_store.errors import Conflict, InvalidInput, StoreError

pytestmark = pytest.mark.any_server


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store on the test's database."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


def graphs() -> st.SearchStrategy[list[list[int]]]:
    """Draw graphs: of each place, those that it needs."""
    return st.integers(0, 8).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(0, size - 1), max_size=3) if size else st.nothing(),
            min_size=size,
            max_size=size,
        )
    )


def name(place: int) -> str:
    """Return the name of a package."""
    return f"p{place}"


def tree(needs: list[list[int]]) -> Any:
    """Return the package tree of a graph."""
    return {
        "root": 0,
        "nodes": [
            {"name": name(place), "version": "1", "dependencies": needed}
            for place, needed in enumerate(needs)
        ],
    }


def plan(needs: list[list[int]]) -> Any:
    """Return the build plan of a graph."""
    return {
        "jobs": [
            {
                "uuid": str(UUID(int=place)),
                "package": name(place),
                "version": "1",
                "needs": [str(UUID(int=one)) for one in needed],
            }
            for place, needed in enumerate(needs)
        ]
    }


def jobs(needs: list[list[int]]) -> Statement[object]:
    """Return what records jobs that read each other's outputs."""
    return job.record_all(
        [
            ended(
                UUID(int=place),
                UUID(int=99),
                package=name(place),
                version="1",
                inputs=[UUID(int=100 + one) for one in {*needed}],
                outputs=[Output("out", sha256(name(place)), 1, UUID(int=100 + place))],
            )
            for place, needed in enumerate(needs)
        ]
    )


DOORS: dict[str, Callable[[list[list[int]]], Statement[object]]] = {
    "tree": lambda needs: create(uuid7(), tree=tree(needs)),
    "plan": lambda needs: create(uuid7(), buildplan=plan(needs)),
    "jobs": jobs,
}


@given(needs=graphs())
def test_a_circle_is_found_exactly_where_there_is_one(needs: list[list[int]]) -> None:
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(needs)))
    graph.add_edges_from((place, one) for place, needed in enumerate(needs) for one in needed)
    found = circle(needs)
    assert bool(found) != nx.is_directed_acyclic_graph(graph)
    assert len({*found}) == len(found)
    assert all(after in needs[one] for one, after in pairwise(found + found[:1]))
    for door in DOORS.values() if needs else ():
        if not found:
            door(needs)
            continue
        with pytest.raises(InvalidInput, match="circle") as refused:
            door(needs)
        way = [int(place) for place in re.findall(r" p(\d) 1 \(", str(refused.value))]
        assert way[0] == way[-1]
        assert all(after in needs[one] for one, after in pairwise(way))


@pytest.mark.parametrize("door", DOORS)
def test_a_ring_of_any_length_is_refused_with_the_way_through_it(door: str) -> None:
    size = 20_000
    ring = [[(place + 1) % size] for place in range(size)]
    with pytest.raises(InvalidInput, match=r"p0 1 \(.* p1 1 \(.*… 19991 more ….* p0 1 \("):
        DOORS[door](ring)
    DOORS[door]([*ring[:-1], []])


def test_a_job_does_not_read_what_it_makes(store: Store) -> None:
    of_submit, uuid, made = uuid7(), uuid7(), uuid7()
    store.run(create(of_submit))
    own = ended(uuid, of_submit, inputs=[made], outputs=[Output("out", sha256("out"), 1, made)])
    for statement in (job.record, lambda one: job.record_all([one])):
        with pytest.raises(InvalidInput, match=f"zlib 1.3 .job {uuid}. reads from zlib"):
            statement(own)
    # By its end it could, if what it reads were not there before.
    store.run(artifact.register("src", sha256=sha256("src"), size=1, uuid=made))
    store.run(start(uuid, of_submit, inputs=[made]))
    with pytest.raises(Conflict, match="artifact"):
        store.run(finish(uuid, outputs=[Output("out", sha256("out"), 1, made)]))
    assert store.run(job.get(uuid)).state == "running"


# Few, so that they meet often.
FILES = [UUID(int=n) for n in range(1, 4)]
JOBS = [UUID(int=n) for n in range(11, 15)]
OF_SUBMIT = UUID(int=20)
SOME = st.lists(st.sampled_from(FILES), unique=True, max_size=2)


def outputs(files: list[UUID]) -> list[Output]:
    """Return outputs with these uuids."""
    return [Output(str(one), sha256(str(one)), 1, one) for one in files]


@st.composite
def calls(draw: st.DrawFn) -> Callable[[], Statement[object]]:
    """Draw a statement that registers, starts, ends or records, of few jobs and files."""
    uuids = draw(st.lists(st.sampled_from(JOBS), unique=True, min_size=1, max_size=3))
    # Each another file, and what it reads the next one makes; or anything.
    makes = [[one] for one in draw(st.permutations(FILES))[: len(uuids)]]
    reads = makes[1:] + makes[:1]
    if draw(st.booleans()):
        makes, reads = [draw(SOME) for _ in uuids], [draw(SOME) for _ in uuids]
    done = [
        {"inputs": read, "outputs": outputs(made)} for read, made in zip(reads, makes, strict=True)
    ]
    uuid, file = uuids[0], draw(st.sampled_from(FILES))
    kinds: dict[str, Callable[[], Statement[object]]] = {
        "register": lambda: artifact.register(
            str(file), sha256=sha256(str(file)), size=1, uuid=file
        ),
        "start": lambda: start(uuid, OF_SUBMIT, inputs=reads[0]),
        "finish": lambda: finish(uuid, outputs=outputs(makes[0])),
        "record": lambda: job.record(ended(uuid, OF_SUBMIT, **done[0])),
        "record_all": lambda: job.record_all(
            [ended(one, OF_SUBMIT, **more) for one, more in zip(uuids, done, strict=True)]
        ),
    }
    return kinds[draw(st.sampled_from([*kinds, "record_all"]))]


@given(drawn=st.lists(st.lists(calls(), min_size=1, max_size=2), max_size=8))
def test_no_sequence_of_calls_makes_a_circle(
    store: Store, connection: psycopg.Connection[tuple[object, ...]], drawn: Any
) -> None:
    connection.execute("TRUNCATE job_input_artifacts, artifact, job_log_chunk, job, submit CASCADE")
    store.run(create(OF_SUBMIT))
    for together in drawn:
        with suppress(StoreError):
            store.run(*(call() for call in together))
    graph: nx.DiGraph[object] = nx.DiGraph()
    graph.add_edges_from(
        connection.execute(
            "SELECT artifact_uuid, job_uuid FROM job_input_artifacts"
            " UNION ALL SELECT job_uuid, uuid FROM artifact WHERE job_uuid IS NOT NULL"
        ).fetchall()
    )
    assert nx.is_directed_acyclic_graph(graph)


def test_two_jobs_do_not_read_each_other_in_one_call_or_in_two(store: Store) -> None:
    store.run(create(OF_SUBMIT))
    first = {"inputs": FILES[:1], "outputs": outputs(FILES[1:2])}
    second = {"inputs": FILES[1:2], "outputs": outputs(FILES[:1])}
    both = [ended(JOBS[0], OF_SUBMIT, **first), ended(JOBS[1], OF_SUBMIT, **second)]
    with pytest.raises(InvalidInput, match="circle"):
        job.record_all(both)
    with pytest.raises(StoreError, match="no artifact"):
        store.run(*map(job.record, both))
    assert store.run(report.jobs()) == []
