"""find-artifact equals butido's rules, written a second time in plain Python."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import TIME, create, ended, later, sha256

from butido_store import Store, job, release, report, uuid7
from butido_store.artifact import Output

VERSIONS, IMAGES, SCRIPTS = ("1", "2"), ("a", "b", "c"), ("make", "make -j")
VARIABLES = ("A=1", "A=2", "B=1", "C=", "C==x")
DIGESTS = (sha256("before"), sha256("after"))
# Each letter is a release of an artifact, to the store of its name; a capital one was withdrawn.
RELEASES = ("", "s", "st", "S", "Ss", "tS")


@dataclass(frozen=True)
class Done:
    """What a job was and left: its outputs, and how often each was released."""

    uuid: UUID
    version: str
    image: str
    image_sha256: bytes | None
    script: str
    env: dict[str, str]
    state: str
    started_at: int
    outputs: tuple[tuple[str, UUID], ...]
    releases: dict[UUID, str]


@st.composite
def jobs(draw: st.DrawFn) -> Done:
    """Draw a job."""
    paths = draw(st.lists(st.sampled_from(["x", "y", "Z"]), unique=True))
    outputs = tuple((path, uuid4()) for path in paths)
    state = draw(st.sampled_from(["success", "success", "success", "error"]))
    choices = st.sampled_from(RELEASES) if state == "success" else st.just("")
    return Done(
        uuid4(),
        draw(st.sampled_from(VERSIONS)),
        draw(st.sampled_from(IMAGES)),
        draw(st.none() | st.sampled_from(DIGESTS)),
        draw(st.sampled_from(SCRIPTS)),
        dict(entry.split("=", 1) for entry in draw(st.lists(st.sampled_from(VARIABLES)))),
        state,
        draw(st.integers(0, 3)),
        outputs,
        {uuid: draw(choices) for _, uuid in outputs},
    )


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what is asked for: each filter or none."""
    images = st.lists(st.sampled_from(IMAGES), unique=True)
    env = st.dictionaries(st.sampled_from("ABC"), st.sampled_from(["1", "2", "", "=x"]))
    asked = {
        "version": draw(st.none() | st.sampled_from(VERSIONS)),
        "image": draw(st.none() | st.sampled_from(IMAGES)),
        "image_sha256": draw(st.none() | st.sampled_from(DIGESTS)),
        "allow_image": draw(st.none() | images),
        "deny_image": draw(st.none() | images),
        "script": draw(st.none() | st.sampled_from(SCRIPTS)),
        "env": draw(st.none() | env),
        "limit": draw(st.none() | st.integers(0, 5)),
    }
    return {name: value for name, value in asked.items() if value is not None}


def releases(done: Sequence[Done]) -> Iterator[tuple[str, UUID, str]]:
    """Yield path, artifact and letter of each release, in their order."""
    for one in done:
        for path, artifact in one.outputs:
            for letter in one.releases[artifact]:
                yield path, artifact, letter


def find(done: Sequence[Done], asked: dict[str, Any]) -> list[tuple[UUID, list[str]]]:
    """Answer as butido does: filter, then sort the released and the newest to the front."""
    # What is in each place, a path of a store: the last that was put there, if it was not taken.
    places: dict[tuple[str, str], UUID | None] = {}
    for path, artifact, letter in releases(done):
        places[letter.lower(), path] = artifact if letter.islower() else None

    def released(artifact: UUID) -> list[str]:
        return sorted(to for (to, _), found in places.items() if found == artifact)

    found = []
    for one in done:
        if (
            one.state == "success"
            and asked.get("version", one.version) == one.version
            and asked.get("image", one.image) == one.image
            and asked.get("image_sha256", one.image_sha256) == one.image_sha256
            and one.image in asked.get("allow_image", [one.image])
            and one.image not in asked.get("deny_image", [])
            and asked.get("script", one.script) == one.script
            and asked.get("env", one.env) == one.env
        ):
            found += [(one, path, uuid) for path, uuid in one.outputs]
    # Python sorts stably: the last key first.
    found.sort(key=lambda hit: hit[1].encode())
    found.sort(key=lambda hit: (hit[0].started_at, hit[0].uuid), reverse=True)
    found.sort(key=lambda hit: not released(hit[2]))
    return [(uuid, released(uuid)) for _, _, uuid in found][: asked.get("limit")]


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store on the test's database."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


def check(store: Store, done: list[Done], asked: list[dict[str, Any]], more: int = 0) -> None:
    """Record the jobs, and compare what is found of them.

    :param more: how many builds of the package there are that left nothing
    """
    # The database is not emptied between examples: each has a package and paths of its own.
    of_submit, package = uuid7(), str(uuid7())
    records = [
        ended(
            one.uuid,
            of_submit,
            package=package,
            version=one.version,
            image=one.image,
            image_sha256=one.image_sha256,
            script=one.script,
            env=one.env,
            state=one.state,
            started_at=later(one.started_at),
            outputs=[
                Output(f"{package}/{path}", sha256(path), 1, uuid) for path, uuid in one.outputs
            ],
        )
        for one in done
    ]
    records += [
        ended(uuid7(), of_submit, package=package, version="1", state="error") for _ in range(more)
    ]
    store.run(create(of_submit), job.record_all(records))
    for _, artifact, letter in releases(done):
        to = letter.lower()
        store.run(
            release.create(uuid7(), store=to, timestamp=TIME, actor="a", artifacts=[artifact])
        )
        if letter.isupper():
            store.run(
                release.withdraw(
                    store=to, artifact=artifact, timestamp=TIME, actor="a", reason="broken"
                )
            )
    for question in asked:
        given = dict(question)
        if "env" in given:
            given["env"] = [f"{name}={value}" for name, value in given["env"].items()] or [""]
        rows = store.run(report.find_artifact(package, **{"limit": None, **given}))
        assert [(row.uuid, row.released) for row in rows] == find(done, question)


QUESTIONS = st.lists(questions(), min_size=1, max_size=4)


@given(done=st.lists(jobs(), min_size=1, max_size=12), asked=QUESTIONS)
def test_it_finds_what_butido_finds(
    store: Store, done: list[Done], asked: list[dict[str, Any]]
) -> None:
    check(store, done, asked)


@given(done=st.lists(jobs(), min_size=1, max_size=12), asked=QUESTIONS)
def test_it_does_so_where_there_are_more_builds_than_releases(
    store: Store, done: list[Done], asked: list[dict[str, Any]]
) -> None:
    check(store, done, asked, more=300)
