"""Each report equals a second implementation, in plain Python, on random stores."""

from collections import deque
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import File, Job, World, questions, recorded, worlds

from butido_store import report

Connection = psycopg.Connection[tuple[object, ...]]
Asked = dict[str, Any]

THOROUGH = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def bounded(jobs: Iterable[Job], asked: Asked) -> list[Job]:
    """Return the jobs that all filters on their own columns leave."""
    return [
        job
        for job in jobs
        if all(
            asked.get(name, getattr(job, name)) == getattr(job, name)
            for name in ("package", "version", "image", "endpoint")
        )
        and ("newer_than" not in asked or job.started_at >= asked["newer_than"])
        and ("older_than" not in asked or job.started_at < asked["older_than"])
    ]


# Impact ---------------------------------------------------------------------------------------


def impact(world: World, asked: Asked) -> list[UUID]:
    """Answer by a walk in breadth: one artifact, or a job with all that it made, is a step."""
    newest = world.newest()
    start: list[Job | File] = [file for file in world.files if file.uuid == asked.get("artifact")]
    if "package" in asked:
        start += bounded(newest, {k: asked[k] for k in ("package", "version") if k in asked})
    if "commit" in asked:
        at_commit = [job for job in newest if job.submit.commit == asked["commit"]]
        at_commit.sort(key=lambda job: (job.submit.timestamp, job.submit.uuid), reverse=True)
        start += at_commit
    for name in ("image", "endpoint"):
        if name in asked:
            start += bounded(newest, {name: asked[name]})
    readers = sorted(world.jobs, key=lambda job: job.uuid, reverse=True)
    queue, seen, found = deque(start), {step.uuid for step in start}, dict[UUID, None]()
    while queue:
        step = queue.popleft()
        made = [step] if isinstance(step, File) else step.outputs
        for file in sorted(made, key=lambda file: file.path.encode()):
            found.setdefault(file.uuid)
            for job in readers:
                if file in job.inputs and job.uuid not in seen:
                    seen.add(job.uuid)
                    queue.append(job)
    return [*found][: asked.get("limit")]


ORIGINS = ("package", "commit", "image", "endpoint")


@st.composite
def origins(draw: st.DrawFn, world: World) -> Asked:
    """Draw what `impact` starts from: one thing at least."""
    asked = draw(questions(some_of=(*ORIGINS, "limit")))
    if not asked.keys() & set(ORIGINS) or draw(st.booleans()):
        asked["artifact"] = draw(st.sampled_from([file.uuid for file in world.files]))
    if "package" in asked and draw(st.booleans()):
        asked |= draw(questions("version", some_of=()))
    return asked


@THOROUGH
@given(world=worlds(), data=st.data())
def test_impact(connection: Connection, world: World, data: st.DataObject) -> None:
    with recorded(connection, world) as store:
        for _ in range(3):
            asked = data.draw(origins(world))
            rows = store.run(report.impact(**{"limit": None} | asked))
            assert [row.uuid for row in rows] == impact(world, asked)
