"""Each listing equals a second implementation, in plain Python, on random stores."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import later, sha256
from stores import (
    DIGESTS,
    ENVS,
    IMAGES,
    PACKAGES,
    PATHS,
    SCRIPTS,
    VALUES,
    VERSIONS,
    File,
    Job,
    Submit,
    World,
    every_question,
    recorded,
    windows,
    worlds,
)

from butido_store import report

Connection = psycopg.Connection[tuple[object, ...]]
Asked = dict[str, Any]
# Columns by name; those that are not there are not compared.
Row = dict[str, Any]
T = TypeVar("T")


def within(asked: Asked, when: Any) -> bool:
    """Return whether a time lies within the bounds that are given."""
    return (asked.get("newer_than") or when) <= when and not (
        "older_than" in asked and when >= asked["older_than"]
    )


def fits(asked: Asked, **values: object) -> bool:
    """Return whether each of the values is what is asked for, where something is."""
    return all(asked.get(name, value) == value for name, value in values.items())


def after(asked: Asked, things: Sequence[T], key: Callable[[T], Any]) -> Sequence[T]:
    """Return what comes after one of these things, in their order, or after one that is gone."""
    before, at = asked.get("before"), asked.get("before_at")
    if before is None:
        return things
    bound = (at, before) if at else next(k for k in map(key, things) if k[1] == before)
    return [thing for thing in things if key(thing) < bound]


def artifacts(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by uuid, newest first."""
    for file in sorted(world.files, key=lambda file: file.uuid, reverse=True):
        if fits(asked, job=file.job, path=file.path, sha256=file.sha256) and (
            "before" not in asked or file.uuid < asked["before"]
        ):
            yield {
                "uuid": file.uuid,
                "path": file.path,
                "sha256": file.sha256,
                "size": 1,
                "job_uuid": file.job,
            }


def jobs(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by what a submit ran or reused, newest first."""
    name, _, value = asked.get("env", "=").partition("=")
    of_submit = asked.get("of_submit")
    taken = {one.job.uuid for one in world.reuses if one.submit.uuid == of_submit}
    for job in after(asked, world.newest(), lambda job: job.key):
        columns = {
            column: getattr(job, column)
            for column in ("package", "version", "image", "endpoint", "state", "reason")
        }
        if (
            fits(asked, **columns)
            and within(asked, job.started_at)
            and (not name or job.env.get(name) == value)
            and (of_submit is None or of_submit == job.submit.uuid or job.uuid in taken)
        ):
            yield columns | {
                "uuid": job.uuid,
                "submit_uuid": job.submit.uuid,
                "started_at": job.started_at,
                "finished_at": job.finished_at,
                "image_sha256": job.image_sha256,
                "fingerprint": job.fingerprint,
                "log_size": None if job.state == "running" else len(job.log),
                "log_removed": job.uuid in asked["gone"],
                "reused": job.uuid in taken,
            }


def submits(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by when it was made, newest first."""
    newest = sorted(world.submits, key=lambda one: (one.timestamp, one.uuid), reverse=True)
    for one in after(asked, newest, lambda one: (one.timestamp, one.uuid)):
        wanted = [entry.split("=", 1) for entry in asked.get("label") or ()]
        in_tree = [
            (name, version)
            for name, version in one.tree
            if fits(asked, with_pkg=name, with_version=version)
        ]
        if (
            fits(
                asked,
                for_pkg=one.package,
                for_version=one.version,
                image=one.image,
                commit=one.commit,
                actor=one.actor,
            )
            and in_tree
            and all((one.labels or {}).get(key) == value for key, value in wanted)
            and within(asked, one.timestamp)
        ):
            yield {
                "uuid": one.uuid,
                "timestamp": one.timestamp,
                "package": one.package,
                "version": one.version,
                "image": one.image,
                "repo_hash": one.commit,
                "actor": one.actor,
                "labels": one.labels,
            }


def releases(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by who came next to the same place."""
    by_uuid = {job.uuid: job for job in world.jobs}
    for place, one in reversed([*enumerate(world.releases)]):
        later = [
            other
            for other in world.releases[place + 1 :]
            if (other.store, other.file.path) == (one.store, one.file.path)
        ]
        job = by_uuid[one.file.job] if one.file.job else None
        gone = later or one.withdrawn_at
        if (
            fits(asked, store=one.store, artifact=one.file.uuid)
            and asked.get("package") in (None, job and job.package)
            and within(asked, one.timestamp)
            and (asked.get("history") or not gone)
        ):
            yield {
                "uuid": one.uuid,
                "artifact_uuid": one.file.uuid,
                "store": one.store,
                "path": one.file.path,
                "sha256": one.file.sha256,
                "job_uuid": one.file.job,
                "package": job and job.package,
                "version": job and job.version,
                "timestamp": one.timestamp,
                "replaced_at": later[0].timestamp if later else None,
                "withdrawn_at": one.withdrawn_at,
                "reason": str(one.uuid) if one.withdrawn_at else None,
            }


def search_log(world: World, asked: Asked) -> Iterable[Row]:
    """Answer line by line."""
    for job in world.newest():
        if (
            fits(asked, of_submit=job.submit.uuid, package=job.package, state=job.state)
            and within(asked, job.started_at)
            and job.uuid not in asked["gone"]
        ):
            for number, line in enumerate(job.log.split("\n"), 1):
                if (
                    line
                    and asked.get("text", "") in line
                    and re.search(asked.get("regex", ""), line)
                ):
                    yield {
                        "job_uuid": job.uuid,
                        "package": job.package,
                        "version": job.version,
                        "state": job.state,
                        "started_at": job.started_at,
                        "line_number": number,
                        "line": line,
                    }


def explain_miss(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by the number of differences."""
    found = []
    env = dict(entry.split("=", 1) for entry in asked["env"] if entry)
    inputs = {(entry[66:], entry[:64]) for entry in asked["inputs"] if entry}
    digest = asked.get("image_sha256")
    for job in world.newest():
        if job.package != asked["package"] or job.state == "running":
            continue
        row: Row = {
            "job_uuid": job.uuid,
            "state": job.state,
            "finished_at": job.finished_at,
            "version": None if job.version == asked["version"] else job.version,
            "image": None if job.image == asked["image"] else job.image,
            "image_sha256": None
            if job.image_sha256 == digest
            else {
                "old": job.image_sha256.hex() if job.image_sha256 else None,
                "new": digest.hex() if digest else None,
            },
            "env": changed_variables(job.env, env) or None,
            "inputs": changed_files(world, job, inputs) or None,
            "script": None if job.script == asked["script"] else job.script,
        }
        differs = [row[name] for name in ("version", "image", "image_sha256", "script")]
        many = len(row["env"] or ()) + len(row["inputs"] or ())
        found.append(
            (sum(one is not None for one in differs) + many + (job.state != "success"), row)
        )
    return [row for _, row in sorted(found[:WINDOW], key=lambda one: one[0])]


def changed_variables(old: Mapping[str, str], new: Mapping[str, str]) -> list[Row]:
    """Return the variables that differ."""
    return [
        {"name": name}
        | ({"old": old[name]} if name in old else {})
        | ({"new": new[name]} if name in new else {})
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def changed_files(world: World, job: Job, new: set[tuple[str, str]]) -> list[Row]:
    """Return the files that differ, those of a path in pairs."""
    old = {(file.path, file.sha256.hex()) for file in job.inputs}
    made = sorted((file for file in world.files if file.job), key=lambda file: file.uuid)
    makers = {(file.path, file.sha256.hex()): str(file.job) for file in made}
    rows = []
    for path in sorted({path for path, _ in old ^ new}):
        removed, added = (sorted(d for p, d in one if p == path) for one in (old - new, new - old))
        for was, now in zip_longest(removed, added):
            row = {"path": path, "old": was, "new": now, "job": makers.get((path, now))}
            rows.append({name: value for name, value in row.items() if value is not None})
    return rows


def last_started(jobs: Iterable[Job]) -> Any:
    """Return when the last of these jobs started, None if there is none."""
    return max((job.started_at for job in jobs), default=None)


def told(world: World) -> Iterable[Job | Submit]:
    """Return all that names a package and an image, and has an environment."""
    yield from world.jobs
    yield from world.submits


def packages(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by name and version."""
    for name, version in sorted({(one.package, one.version) for one in told(world)}):
        if fits(asked, name=name):
            built = (job for job in world.jobs if (job.package, job.version) == (name, version))
            yield {"name": name, "version": version, "last_started_at": last_started(built)}


def images(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by name."""
    for name in sorted({one.image for one in told(world)}):
        inside = (job for job in world.jobs if job.image == name)
        yield {"name": name, "last_started_at": last_started(inside)}


def endpoints(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by name."""
    for name in sorted({*(job.endpoint for job in world.jobs), UNUSED}):
        there = (job for job in world.jobs if job.endpoint == name)
        yield {"name": name, "last_started_at": last_started(there)}


def envvars(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by name, then by the digest of the value."""
    pairs = {pair for one in told(world) for pair in one.env.items()}
    for name, value in sorted(pairs, key=lambda pair: (pair[0], sha256(pair[1]))):
        if fits(asked, name=name):
            yield {"name": name, "value": value}


def file_row(file: File, **more: object) -> Row:
    """Return a file as the report on a job shows it."""
    return {
        "uuid": str(file.uuid),
        "path": file.path,
        "sha256": file.sha256.hex(),
        "size": 1,
    } | more


def rfc3339(when: datetime | None) -> str | None:
    """Return a time as a document has it."""
    return None if when is None else f"{when:%Y-%m-%dT%H:%M:%S.%fZ}"


def job(world: World, asked: Asked) -> Iterable[Row]:
    """Answer with what was asked for beside."""
    for one in world.jobs:
        if one.uuid == asked["job"]:
            runs, gone = one.state == "running", one.uuid in asked["gone"]
            inputs = sorted(one.inputs, key=lambda file: (file.path, file.uuid))
            no_log = gone or (runs and len(one.log) > LOG)
            yield {
                "uuid": one.uuid,
                "submit_uuid": one.submit.uuid,
                "package": one.package,
                "version": one.version,
                "image": one.image,
                "endpoint": one.endpoint,
                "state": one.state,
                "started_at": one.started_at,
                "finished_at": one.finished_at,
                "duration": one.finished_at and one.finished_at - one.started_at,
                "reason": one.reason,
                "image_sha256": one.image_sha256,
                "fingerprint": one.fingerprint,
                "failure_sha256": sha256(one.failure) if one.failure else None,
                "log_size": None if runs else len(one.log),
                "log_removed": gone,
                "inputs": [
                    file_row(file, job_uuid=str(file.job) if file.job else None) for file in inputs
                ],
                "outputs": [
                    file_row(file) for file in sorted(one.outputs, key=lambda file: file.path)
                ],
                "env": one.env if asked.get("env") else None,
                "script": one.script if asked.get("script") else None,
                "log": one.log if asked.get("log") and not no_log else None,
            }


def submit(world: World, asked: Asked) -> Iterable[Row]:
    """Answer by when its jobs started, its own and those that it reused."""
    for one in world.submits:
        if one.uuid == asked["submit"]:
            own = [job for job in world.jobs if job.submit is one]
            taken = [reuse.job for reuse in world.reuses if reuse.submit is one]
            states = Counter(job.state for job in own)
            yield {
                "uuid": one.uuid,
                "timestamp": one.timestamp,
                "package": one.package,
                "version": one.version,
                "image": one.image,
                "repo_hash": one.commit,
                "actor": one.actor,
                "labels": one.labels,
                "env": one.env,
                "running": states["running"],
                "success": states["success"],
                "error": states["error"],
                "lost": states["lost"],
                "reused": len(taken),
                "seconds_saved": sum(job.seconds or 0 for job in taken),
                "jobs": [
                    {
                        "uuid": str(job.uuid),
                        "package": job.package,
                        "version": job.version,
                        "state": job.state,
                        "reused": job in taken,
                        "endpoint": job.endpoint,
                        "started_at": rfc3339(job.started_at),
                        "finished_at": rfc3339(job.finished_at),
                    }
                    for job in sorted((*own, *taken), key=lambda job: job.key)
                ],
            }


TIMES = ("newer_than", "older_than")
NOBODY = UUID(int=0)
# An endpoint whose jobs were removed.
UNUSED = "unused"
# What explain_miss looks at, in place of 100.
WINDOW = 3
# How many bytes of a log a job shows, in place of 512 MiB; what some of them have.
LOG = 2
ENTRIES = [f"{sha256(content).hex()}  {path}" for path in (*PATHS, "s", "t") for content in "123"]
Values = dict[str, st.SearchStrategy[Any]]
Answer = Callable[[World, Asked], Iterable[Row]]
# The parameters that are always given, and the others.
ANSWERS: dict[str, tuple[Answer, tuple[str, ...], tuple[str, ...]]] = {
    "artifacts": (artifacts, (), ("job", "path", "sha256", "before", "limit")),
    "endpoints": (endpoints, (), ("limit",)),
    "envvars": (envvars, (), ("name", "limit")),
    "explain_miss": (
        explain_miss,
        ("package", "version", "image", "script", "env", "inputs"),
        ("image_sha256", "limit"),
    ),
    "images": (images, (), ("limit",)),
    "job": (job, ("job",), ("log", "script", "env")),
    "jobs": (
        jobs,
        (),
        (
            *("of_submit", "package", "version", "image", "endpoint", "state", "reason", "env"),
            *(*TIMES, "before", "before_at", "limit"),
        ),
    ),
    "packages": (packages, (), ("name", "limit")),
    "releases": (releases, (), ("store", "package", "artifact", "history", *TIMES, "limit")),
    "search_log": (
        search_log,
        (),
        ("text", "regex", "of_submit", "package", "state", *TIMES, "limit"),
    ),
    "submit": (submit, ("submit",), ()),
    "submits": (
        submits,
        (),
        (
            *("for_pkg", "for_version", "with_pkg", "with_version", "image", "commit", "actor"),
            *("label", *TIMES, "before", "before_at", "limit"),
        ),
    ),
}


def values(name: str, world: World) -> Values:
    """Return what each parameter of a report may be given on this store."""
    things: Mapping[str, Iterable[Any]] = {
        "artifacts": world.files,
        "jobs": world.jobs,
        "submits": world.submits,
    }
    own: Values = {
        "job": st.sampled_from([NOBODY, *(job.uuid for job in world.jobs)]),
        "artifact": st.sampled_from([file.uuid for file in world.files]),
        "submit": st.sampled_from([NOBODY, *(one.uuid for one in world.submits)]),
        "of_submit": st.sampled_from([NOBODY, *(one.uuid for one in world.submits)]),
        "before": st.sampled_from([NOBODY, *(one.uuid for one in things.get(name, ()))]),
        "before_at": VALUES["older_than"],
        "for_pkg": VALUES["package"],
        "for_version": VALUES["version"],
        "with_pkg": VALUES["package"],
        "with_version": VALUES["version"],
    }
    if name == "job":
        own |= dict.fromkeys(("log", "script", "env"), st.booleans())
    if name == "packages":
        own["name"] = VALUES["package"]
    if name == "envvars":
        own["name"] = st.sampled_from(["LANG", "a", "no"])
    if name == "explain_miss":
        own |= {
            "package": st.sampled_from(PACKAGES),
            "version": st.sampled_from(VERSIONS),
            "image": st.sampled_from(IMAGES),
            "image_sha256": st.sampled_from(DIGESTS),
            "script": st.sampled_from(SCRIPTS),
            "env": st.sampled_from(ENVS).map(lambda env: [f"{n}={v}" for n, v in env.items()]),
            "inputs": st.lists(st.sampled_from(ENTRIES), max_size=4),
        }
    return {**VALUES, **own}


@pytest.mark.parametrize(
    "names",
    [
        ("artifacts", "endpoints", "envvars", "images", "packages"),
        ("jobs", "search_log"),
        ("job", "submit"),
        ("explain_miss", "releases", "submits"),
    ],
    ids=" ".join,
)
@given(data=st.data())
def test_listings(connection: Connection, names: tuple[str, ...], data: st.DataObject) -> None:
    world = data.draw(worlds())
    # A page of jobs looks for a variable among the newest first, which changes no answer.
    with (
        recorded(connection, world) as store,
        windows("explain_miss", {100: WINDOW}),
        windows("job", {536870912: LOG}),
        windows("jobs", {1000: 2}),
    ):
        connection.execute("INSERT INTO endpoint (name) VALUES (%s)", [UNUSED])
        ended = [job.uuid for job in world.jobs if job.state != "running"]
        gone = [uuid for uuid in ended if data.draw(st.booleans())]
        connection.execute("UPDATE job SET log = NULL WHERE uuid = ANY(%s)", [gone])
        for name in names:
            answer, needed, some_of = ANSWERS[name]
            questions = every_question(*needed, some_of=some_of, values=values(name, world))
            for asked in data.draw(questions):
                if name == "search_log" and not asked.keys() & {"text", "regex"}:
                    asked["regex"] = "x*"
                if "with_version" in asked:
                    asked.setdefault("with_pkg", "app")
                if "before_at" in asked:
                    asked.setdefault("before", NOBODY)
                if name != "artifacts" and asked.get("before") == NOBODY:
                    asked.setdefault("before_at", later(2))
                everything = {"limit": None} if "limit" in some_of else {}
                rows = store.run(getattr(report, name)(**everything | asked))
                expected = [*answer(world, asked | {"gone": gone})][: asked.get("limit")]
                columns = expected[0] if expected else {}
                assert [{c: getattr(row, c) for c in columns} for row in rows] == expected, name
