"""Jobs: from their start over their log to their end."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended, fingerprint, finish, later, sha256, start
from stores import World, recorded, worlds

from butido_store import Statement, artifact, job, report, uuid7
from butido_store.artifact import Artifact, Output
from butido_store.errors import Conflict, InvalidInput, NotFound, NotRunning, StoreError
from butido_store.log import decode_log


@pytest.fixture
def of_submit(store: AnyStore) -> UUID:
    """The uuid of a submit that is there."""
    uuid = uuid7()
    store.run(create(uuid))
    return uuid


@pytest.fixture
def running(store: AnyStore, of_submit: UUID) -> UUID:
    """The uuid of a job that is running."""
    uuid = uuid7()
    store.run(start(uuid, of_submit))
    return uuid


def source(store: AnyStore, path: str = "src/zlib.tar.gz", content: str = "zlib") -> Artifact:
    """Register a source file."""
    return store.run(artifact.register(path, sha256=sha256(content), size=len(content)))


def test_a_job_is_there_from_its_start(store: AnyStore, of_submit: UUID) -> None:
    uuid, input_ = uuid7(), source(store)
    print_ = store.run(start(uuid, of_submit, inputs=[input_.uuid]))
    found = store.run(job.get(uuid))
    assert found == job.Job(
        uuid,
        of_submit,
        "zlib",
        "1.3",
        "debian:12",
        "builder-1",
        "running",
        later(1),
        None,
        None,
        None,
        None,
        found.heartbeat_at,
        None,
        None,
        print_,
        None,
        False,
    )
    assert store.run(job.script(uuid)) == "#!/bin/sh\nmake\n"
    assert store.run(job.env(uuid)) == {"LANG": "C.UTF-8", "CC": "gcc"}
    assert store.run(job.inputs(uuid)) == [input_]
    assert store.run(job.outputs(uuid)) == []
    assert store.run(job.log(uuid)) == ""


def test_the_fingerprint_is_over_all_that_decides(store: AnyStore, of_submit: UUID) -> None:
    files = [source(store, f"src/{name}", name) for name in ("é", "b", "a")]
    env = {"B": "2", "A": "1", "Ä": "ö\n"}
    print_ = store.run(start(uuid7(), of_submit, env=env, inputs=[f.uuid for f in files]))
    assert print_ == fingerprint(
        "zlib",
        "1.3",
        "debian:12",
        "#!/bin/sh\nmake\n",
        env,
        [(f.path, f.sha256 or b"") for f in files],
    )


def test_each_way_to_record_a_job_counts_its_images_digest(
    store: AnyStore, of_submit: UUID
) -> None:
    digest, values = sha256("image"), ("zlib", "1.3", "debian:12", "#!/bin/sh\nmake\n")
    env = {"LANG": "C.UTF-8", "CC": "gcc"}
    known, unknown = fingerprint(*values, env, [], digest), fingerprint(*values, env, [])
    one, two, three, four = uuids = [uuid7() for _ in range(4)]
    assert store.run(start(one, of_submit, image_sha256=digest)) == known
    assert store.run(job.record(ended(two, of_submit, image_sha256=digest))) == known
    both = [ended(three, of_submit, image_sha256=digest), ended(four, of_submit)]
    assert store.run(job.record_all(both)) == [known, unknown]
    found = [store.run(job.get(uuid)) for uuid in uuids]
    assert [each.image_sha256 for each in found] == [digest, digest, digest, None]
    assert [each.fingerprint for each in found] == [known, known, known, unknown]


@pytest.mark.parametrize(
    "change",
    [
        {"package": "other"},
        {"version": "2"},
        {"image": "other"},
        {"image_sha256": sha256("image")},
        {"endpoint": "other"},
        {"script": "other"},
        {"env": {}},
        {"started_at": later(2)},
        {"container_hash": "other"},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_repeated_start_is_no_error_but_a_different_one_is(
    store: AnyStore, of_submit: UUID, change: dict[str, Any]
) -> None:
    uuid = uuid7()
    first = store.run(start(uuid, of_submit))
    assert store.run(start(uuid, of_submit)) == first
    with pytest.raises(Conflict, match=str(uuid)):
        store.run(start(uuid, of_submit, **change))
    assert store.run(job.get(uuid)).fingerprint == first


@pytest.mark.parametrize("again", [sha256("new"), None], ids=["another", "none"])
@pytest.mark.parametrize("record", [False, True])
def test_a_digest_of_the_image_is_part_of_what_is_repeated(
    store: AnyStore, of_submit: UUID, again: bytes | None, record: bool
) -> None:
    uuid = uuid7()

    def said(image_sha256: bytes | None) -> Statement[bytes | None]:
        if record:
            return job.record(ended(uuid, of_submit, image_sha256=image_sha256))
        return start(uuid, of_submit, image_sha256=image_sha256)

    first = store.run(said(sha256("image")))
    assert store.run(said(sha256("image"))) == first
    with pytest.raises(Conflict, match=r"other content: image_sha256$"):
        store.run(said(again))
    assert store.run(job.get(uuid)).image_sha256 == sha256("image")


def test_an_unknown_submit_or_input_is_named(
    store: AnyStore, of_submit: UUID, running: UUID
) -> None:
    """While all shared values are known, as after the first job."""
    unknown = uuid7()
    with pytest.raises(NotFound, match=f"no submit {unknown}"):
        store.run(start(uuid7(), unknown))
    with pytest.raises(NotFound, match=f"inputs: .*{unknown}"):
        store.run(start(uuid7(), of_submit, inputs=[source(store).uuid, unknown]))
    assert [one.uuid for one in store.run(report.jobs())] == [running]


def test_a_log_is_the_same_while_it_runs_and_after(
    store: AnyStore, running: UUID, connection: psycopg.Connection[Any]
) -> None:
    pieces = ["configure\n", "make\n", "make install\n"]
    for seq, piece in enumerate(pieces):
        store.run(job.append_log(running, seq=seq, data=piece))
    assert store.run(job.log(running)) == "".join(pieces)
    store.run(finish(running))
    assert store.run(job.log(running)) == "".join(pieces)
    row = connection.execute("SELECT log, (SELECT count(*) FROM job_log_chunk) FROM job").fetchone()
    assert row == ("".join(pieces), 0)


def test_a_piece_of_log_has_its_place_once(store: AnyStore, running: UUID) -> None:
    statement = job.append_log(running, seq=0, data="a")
    store.run(statement)
    store.run(statement)
    with pytest.raises(Conflict):
        store.run(job.append_log(running, seq=0, data="b"))
    assert store.run(job.log(running)) == "a"


@given(pieces=st.lists(st.binary(max_size=30) | st.sampled_from([b"\\", b"\\x", b"\\x4", b"x41"])))
def test_any_bytes_survive_in_any_pieces(pieces: list[bytes]) -> None:
    statements = [job.append_log(uuid7(), seq=0, data=piece) for piece in pieces]
    text = "".join(str(one.steps[-1].parameters["chunk"]) for one in statements)
    assert "\0" not in text
    assert decode_log(text.encode().decode()) == b"".join(pieces)


def test_nul_and_bytes_that_are_no_utf8_are_kept_readable(store: AnyStore, running: UUID) -> None:
    data = b"caf\xc3\xa9 \x00 \xff\xfe \\x41 C:\\dir\n"
    store.run(job.append_log(running, seq=0, data=data))
    text = store.run(job.log(running))
    assert text == "café \\x00 \\xff\\xfe \\x5cx41 C:\\dir\n"
    assert decode_log(text) == data


def test_the_end_brings_outputs_time_and_state(store: AnyStore, running: UUID) -> None:
    made = store.run(finish(running, "zlib-1.3.tar.gz", "a/ü.txt"))
    found = store.run(job.get(running))
    assert (found.state, found.finished_at, found.log_size) == ("success", later(60), 0)
    assert store.run(job.outputs(running)) == [*made]
    assert [*made] == [
        Artifact(one.uuid, path, sha256(path), len(path), running)
        for one, path in zip(made, ("a/ü.txt", "zlib-1.3.tar.gz"), strict=True)
    ]


def test_pieces_and_an_end_that_are_repeated_together_are_no_error(
    store: AnyStore, running: UUID
) -> None:
    """As a builder does that had no answer to them."""
    pieces = [job.append_log(running, seq=n, data=text) for n, text in enumerate(("a", "b", "c"))]
    assert store.run(*pieces, finish(running)) == store.run(*pieces, finish(running))
    assert store.run(job.log(running)) == "abc"
    with pytest.raises(NotRunning):
        store.run(job.append_log(running, seq=1, data="x"))


PIECES = st.lists(st.text("ab\\x\0é", max_size=3), max_size=4)


@pytest.mark.parametrize("end", ["finish", "sweep", None])
def test_only_a_piece_in_its_own_place_is_a_repeated_one(
    store: AnyStore, connection: psycopg.Connection[Any], of_submit: UUID, end: str | None
) -> None:
    """Said in any order and again, before and after the end, also where the log has its text."""

    @given(
        pieces=PIECES, said=st.lists(st.tuples(st.integers(0, 5), st.text("ab\\x\0é", max_size=3)))
    )
    def check(pieces: list[str], said: list[tuple[int, str]]) -> None:
        uuid = uuid7()
        store.run(start(uuid, of_submit))
        log, followed, after = list[str](), "", None

        def follow() -> None:
            nonlocal followed, after
            piece = store.run(job.log_after(uuid, after=after, characters=len(followed)))
            followed, after = followed + piece.text, after if piece.seq is None else piece.seq

        def append(seq: int, data: str, *, ended: bool) -> None:
            statement = job.append_log(uuid, seq=seq, data=data)
            if log[seq : seq + 1] == [data]:
                store.run(statement)
            elif ended:
                with pytest.raises(NotRunning):
                    store.run(statement)
            elif seq != len(log):
                place = "another piece at place" if seq < len(log) else f"no piece {len(log)} yet"
                with pytest.raises(Conflict, match=place):
                    store.run(statement)
            else:
                store.run(statement)
                log.append(data)

        for seq, data in [*said, *enumerate(pieces)]:
            append(seq, data, ended=False)
            follow()
        if end == "finish":
            store.run(finish(uuid))
        elif end == "sweep":
            silent = "UPDATE job SET heartbeat_at = heartbeat_at - interval '1 day'"
            connection.execute(f"{silent} WHERE uuid = %s", [uuid])
            store.run(job.sweep(silent_for=timedelta(hours=1)))
        for seq, data in [*said, *enumerate(pieces), *enumerate(list(log))]:
            append(seq, data, ended=end is not None)
        follow()
        text = store.run(job.log(uuid))
        assert text == followed
        assert decode_log(text) == "".join(log).encode()

    check()


def test_a_piece_of_a_log_that_was_removed_is_not_taken_for_a_repeated_one(
    store: AnyStore, running: UUID, connection: psycopg.Connection[Any]
) -> None:
    piece = job.append_log(running, seq=0, data="")
    store.run(piece, finish(running))
    store.run(piece)
    connection.execute("UPDATE job SET log = NULL")
    with pytest.raises(NotRunning):
        store.run(piece)


def test_a_repeated_end_is_no_error_and_has_the_same_artifacts(
    store: AnyStore, running: UUID
) -> None:
    made = store.run(finish(running, "b", "a"))
    # Made anew, so with other uuids for its outputs.
    assert store.run(finish(running, "a", "b")) == made


@pytest.mark.parametrize(
    ("paths", "change", "error"),
    [
        (["a"], {"state": "error"}, NotRunning),
        (["a"], {"state": "lost"}, NotRunning),
        (["a"], {"finished_at": later(61)}, Conflict),
        (["b"], {}, Conflict),
        ([], {}, Conflict),
        (["a", "b"], {}, Conflict),
        ([], {"outputs": [Output("a", sha256("other"), 1)]}, Conflict),
        ([], {"outputs": [Output("a", sha256("a"), 2)]}, Conflict),
        (["a"], {"reason": "timeout"}, Conflict),
        (["a"], {"exit_code": 0}, Conflict),
        (["a"], {"measurements": {"cpu_seconds": 0}}, Conflict),
    ],
)
def test_another_end_is_refused(
    store: AnyStore,
    running: UUID,
    paths: list[str],
    change: dict[str, Any],
    error: type[Exception],
) -> None:
    store.run(finish(running, "a"))
    before = store.run(job.get(running), job.outputs(running))
    with pytest.raises(error, match=str(running)):
        store.run(finish(running, *paths, **change))
    assert store.run(job.get(running), job.outputs(running)) == before


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
NUMBERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([sys.float_info.max, int(sys.float_info.max), 5e-324, -0.0])
    | st.decimals(-(10**9), 10**9, places=6)
)


@given(
    reason=st.none() | TEXTS.filter(bool),
    exit_code=st.none() | st.integers(-(2**63), 2**63 - 1),
    measured=st.none()
    | st.dictionaries(
        TEXTS.filter(bool),
        NUMBERS,
        max_size=3,
    ),
)
def test_why_and_how_a_job_ended_is_kept_however_it_is_written(
    store: AnyStore,
    of_submit: UUID,
    reason: str | None,
    exit_code: int | None,
    measured: dict[str, job.Number] | None,
) -> None:
    how: dict[str, Any] = {
        "state": "error",
        "reason": reason,
        "exit_code": exit_code,
        "measurements": measured,
    }
    one, two, three = uuid7(), uuid7(), uuid7()
    for _ in range(2):
        store.run(start(one, of_submit), finish(one, **how))
        store.run(job.record(ended(two, of_submit, **how)))
        store.run(job.record_all([ended(three, of_submit, **how)]))
    for uuid in (one, two, three):
        found = store.run(job.get(uuid))
        assert (found.reason, found.exit_code) == (reason, exit_code)
        assert {n: float(v) for n, v in (found.measurements or {}).items()} == {
            n: float(v) for n, v in (measured or {}).items()
        }


@pytest.mark.parametrize("again", [{"a": 1.0, "b": Decimal("2.50")}, {"b": 2.5, "a": Decimal(1)}])
def test_equal_numbers_are_the_same_end(
    store: AnyStore, running: UUID, again: dict[str, job.Number]
) -> None:
    store.run(finish(running, measurements={"a": 1, "b": 2.5}))
    assert store.run(finish(running, measurements=again)) == ()
    with pytest.raises(Conflict, match=r"other content: measurements$"):
        store.run(finish(running, measurements={"a": 1}))


def test_nothing_measured_is_none(
    store: AnyStore, running: UUID, connection: psycopg.Connection[Any]
) -> None:
    store.run(finish(running, measurements={}))
    assert store.run(finish(running)) == ()
    asked = connection.execute("SELECT measurements IS NULL FROM job").fetchall()
    assert asked == [(True,)]


def test_a_swept_job_has_no_reason_and_its_builder_learns_that_it_ended(
    store: AnyStore, running: UUID, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 day'")
    connection.commit()
    assert store.run(job.sweep(silent_for=timedelta(minutes=1))) == [running]
    assert store.run(job.get(running)).reason is None
    with pytest.raises(NotRunning, match="lost"):
        store.run(finish(running, state="lost", reason="timeout"))


@pytest.mark.parametrize("state", ["success", "error", "lost"])
def test_an_ended_job_takes_nothing_more(store: AnyStore, running: UUID, state: str) -> None:
    store.run(finish(running, state=state))
    for late in (
        job.append_log(running, seq=9, data="late"),
        job.heartbeat(running),
        job.set_container(running, "late"),
    ):
        with pytest.raises(NotRunning, match=f"its state is {state}"):
            store.run(late)
    assert store.run(job.log(running)) == ""


def test_a_job_that_is_not_there_takes_nothing(store: AnyStore) -> None:
    for statement in (
        job.append_log(uuid7(), seq=0, data=""),
        job.heartbeat(uuid7()),
        job.set_container(uuid7(), "x"),
        finish(uuid7()),
        job.get(uuid7()),
        job.log(uuid7()),
        job.script(uuid7()),
    ):
        with pytest.raises(NotFound, match="no job"):
            store.run(statement)


def test_a_container_is_set_once(store: AnyStore, running: UUID) -> None:
    store.run(job.set_container(running, "abc"))
    store.run(job.set_container(running, "abc"))
    with pytest.raises(Conflict):
        store.run(job.set_container(running, "def"))
    assert store.run(job.get(running)).container_hash == "abc"


def test_a_silent_job_is_lost_and_a_beating_one_is_not(
    store: AnyStore, of_submit: UUID, connection: psycopg.Connection[Any]
) -> None:
    silent, mute, third, beating = (uuid7() for _ in range(4))
    store.run(*(start(uuid, of_submit) for uuid in (silent, mute, third, beating)))
    logs = {silent: "so far", mute: "", third: "é"}
    store.run(*(job.append_log(uuid, seq=0, data=logs[uuid]) for uuid in (third, silent)))
    connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 hour'")
    store.run(job.heartbeat(beating))
    half_an_hour = timedelta(minutes=30)
    assert store.run(job.sweep(silent_for=half_an_hour, endpoint="builder-2")) == []
    assert store.run(job.sweep(silent_for=half_an_hour, endpoint="builder-1")) == [*logs]
    for uuid, log in logs.items():
        lost = store.run(job.get(uuid))
        assert (lost.state, lost.log_size) == ("lost", len(log.encode()))
        assert store.run(job.log(uuid)) == log
    assert store.run(job.get(beating)).state == "running"
    assert store.run(job.sweep(silent_for=timedelta(minutes=30))) == []
    with pytest.raises(NotRunning, match="lost"):
        store.run(finish(silent))


@pytest.mark.parametrize("year", [1970, 9998])
def test_a_lost_job_ends_with_its_last_sign_of_life_but_not_before_its_start(
    store: AnyStore, of_submit: UUID, connection: psycopg.Connection[Any], year: int
) -> None:
    """Its builder's clock may be far from the database's."""
    uuid = uuid7()
    store.run(start(uuid, of_submit, started_at=datetime(year, 6, 1, tzinfo=UTC)))
    connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 hour'")
    assert store.run(job.sweep(silent_for=timedelta(minutes=30))) == [uuid]
    lost = store.run(job.get(uuid))
    assert lost.finished_at == (lost.heartbeat_at if year == 1970 else lost.started_at)
    assert lost.log_size == 0


def test_ended_jobs_are_recorded_at_once(store: AnyStore, of_submit: UUID) -> None:
    first, second, file = uuid7(), uuid7(), source(store)
    out = Output("zlib.a", sha256("zlib.a"), 6)
    own: dict[str, Any] = {"container_hash": "c", "env": {"A": ""}}
    jobs = (
        ended(first, of_submit, inputs=[file.uuid], outputs=[out], **own),
        # Reads what the first made, in the same call.
        ended(second, of_submit, package="curl", state="error", inputs=[out.uuid], log=b"\xff"),
    )
    prints = store.run(job.record_all(jobs))
    assert store.run(job.record_all(jobs)) == prints
    assert store.run(job.get(first)).fingerprint == prints[0]
    found = store.run(job.get(second))
    assert (found.state, found.package, found.fingerprint) == ("error", "curl", prints[1])
    assert [a.path for a in store.run(job.inputs(second))] == ["zlib.a"]
    assert [a.uuid for a in store.run(job.outputs(first))] == [out.uuid]
    assert store.run(job.log(second)) == "\\xff"
    assert store.run(job.env(first)) == own["env"]
    assert store.run(job.env(second)) == {"LANG": "C.UTF-8", "CC": "gcc"}


def test_a_recorded_job_has_the_fingerprint_of_a_started_one(
    store: AnyStore, of_submit: UUID
) -> None:
    file = source(store)
    started = store.run(start(uuid7(), of_submit, inputs=[file.uuid]))
    assert store.run(job.record(ended(uuid7(), of_submit, inputs=[file.uuid]))) == started


# What is said of a job at its start, and at its end.
BEGUN = (
    *("submit", "package", "version", "image", "image_sha256", "endpoint", "started_at"),
    *("script", "env", "inputs", "container_hash"),
)
ENDED = ("state", "finished_at", "outputs", "reason", "exit_code", "measurements")


def file_of(number: int) -> Artifact:
    """Return a file from outside; those of high numbers come first by their paths."""
    path = "src/a" if number > 9 else "src/b"
    return Artifact(UUID(int=number), path, sha256(f"{number}"), number, None)


def said_of(number: int) -> dict[str, Any]:
    """Return what is said of a job that has ended, each of it different for each number."""
    return {
        "submit": uuid7(),
        "package": f"p{number}",
        "version": f"{number}",
        "image": f"i{number}",
        "image_sha256": sha256(f"i{number}"),
        "endpoint": f"e{number}",
        "started_at": later(number),
        "script": f"s{number}",
        "env": {"Z": f"{number}", f"O{number}": "", "BOTH": "same"},
        "inputs": [UUID(int=n + number) for n in (4, 1, 96)],
        "container_hash": f"c{number}",
        "log": f"error: {number}\n",
        "state": ("success", "error", "lost")[number],
        "finished_at": later(60 + number),
        "outputs": [
            Output(
                f"out/{place}", sha256(f"o{number}"), number, UUID(int=1000 - 10 * number - place)
            )
            for place in range(2)
        ],
        "reason": f"r{number}",
        "exit_code": number,
        "measurements": {"m": float(number)},
    }


def in_pieces(jobs: Mapping[UUID, dict[str, Any]]) -> list[Statement[object]]:
    """Return what records jobs as they go: each begins before another one goes on."""
    return [
        *(job.start(uuid, **{name: said[name] for name in BEGUN}) for uuid, said in jobs.items()),
        *(job.append_log(uuid, seq=0, data=said["log"]) for uuid, said in jobs.items()),
        *(job.finish(uuid, **{name: said[name] for name in ENDED}) for uuid, said in jobs.items()),
    ]


def whole(jobs: Mapping[UUID, dict[str, Any]]) -> list[job.EndedJob]:
    """Return jobs as they are recorded once they have ended."""
    return [job.EndedJob(uuid=uuid, **said) for uuid, said in jobs.items()]


WAYS: dict[str, Callable[[Mapping[UUID, dict[str, Any]]], list[Statement[object]]]] = {
    "in pieces": in_pieces,
    "whole": lambda jobs: [job.record(one) for one in whole(jobs)],
    "together": lambda jobs: [job.record_all(whole(jobs))],
}


@pytest.mark.parametrize("way", WAYS)
def test_each_of_several_is_what_was_said_of_it(store: AnyStore, way: str) -> None:
    """Beside others, of which all is different; and a repetition is compared with its own alone."""
    several, write = {uuid7(): said_of(number) for number in range(3)}, WAYS[way]
    files = {uuid: file_of(uuid.int) for said in several.values() for uuid in said["inputs"]}
    for one in files.values():
        assert one.sha256 is not None
        assert one.size is not None
        store.run(artifact.register(one.path, sha256=one.sha256, size=one.size, uuid=one.uuid))
    store.run(*(create(said["submit"]) for said in several.values()))
    for statement in write(several) * 2:
        store.run(statement)
    for uuid, said in several.items():
        inputs = [files[of] for of in sorted(said["inputs"], key=lambda of: (of.int < 9, of))]
        assert store.run(job.inputs(uuid)) == inputs
        assert store.run(job.outputs(uuid)) == [
            Artifact(one.uuid, one.path, one.sha256, one.size, uuid) for one in said["outputs"]
        ]
        assert [*store.run(job.env(uuid)).items()] == sorted(said["env"].items())
        assert store.run(job.script(uuid)) == said["script"]
        assert store.run(job.log(uuid)) == store.run(job.log_after(uuid)).text == said["log"]
        found = asdict(store.run(job.get(uuid)))
        own = said["package"], said["version"], said["image"], said["script"], said["env"]
        read = [(one.path, one.sha256 or b"") for one in inputs]
        assert found.pop("fingerprint") == fingerprint(*own, read, said["image_sha256"])
        del found["heartbeat_at"]
        apart = ("script", "env", "inputs", "outputs", "log", "submit")
        assert found == {
            "uuid": uuid,
            "submit_uuid": said["submit"],
            "log_size": len(said["log"]),
            "log_removed": False,
            **{name: said[name] for name in said if name not in apart},
        }
    (uuid, said), *_, (_, other) = several.items()
    for name in said:
        changed = write({uuid: {**said, name: other[name]}})
        # An end in another state, or another piece of a log, comes too late.
        expected: tuple[type[StoreError], str] = Conflict, f"other content: {name}$"
        if way == "in pieces" and name in ("state", "log"):
            expected = NotRunning, "its state is success$"
        with pytest.raises(expected[0], match=expected[1]):
            store.run(*changed)


@given(world=worlds())
def test_jobs_that_are_recorded_together_have_what_each_read_and_made(
    connection: psycopg.Connection[tuple[object, ...]], world: World
) -> None:
    """Also where one reads what another one of them made; the fingerprint is reckoned twice."""
    with recorded(connection, world) as store:
        for one in world.jobs:
            assert store.run(job.get(one.uuid)).fingerprint == one.fingerprint
            read, made = store.run(job.inputs(one.uuid), job.outputs(one.uuid))
            assert {file.uuid for file in read} == {file.uuid for file in one.inputs}
            assert {file.uuid for file in made} == {file.uuid for file in one.outputs}


@pytest.mark.parametrize(
    "change",
    [
        {"log": "other"},
        {"state": "error"},
        {"finished_at": later(61)},
        {"container_hash": "x"},
        {"reason": "timeout"},
        {"exit_code": 0},
        {"measurements": {"cpu_seconds": 0}},
        {"endpoint": "other"},
        {"env": {}},
        {"outputs": [Output("b", sha256("a"), 1)]},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_recorded_job_is_not_altered(
    store: AnyStore, of_submit: UUID, change: dict[str, Any]
) -> None:
    uuid, other = uuid7(), uuid7()
    outputs = [Output("a", sha256("a"), 1)]
    store.run(job.record(ended(uuid, of_submit, outputs=outputs)))
    with pytest.raises(Conflict, match=str(uuid)):
        store.run(
            job.record_all(
                [ended(other, of_submit), ended(uuid, of_submit, **{"outputs": outputs} | change)]
            )
        )
    with pytest.raises(Conflict, match=str(uuid)):
        store.run(job.record(ended(uuid, of_submit, **{"outputs": outputs} | change)))
    # All or none: the one that could have been recorded is not.
    assert [found.uuid for found in store.run(report.jobs())] == [uuid]


def test_a_uuid_of_another_artifact_is_a_conflict(store: AnyStore, running: UUID) -> None:
    taken = source(store).uuid
    with pytest.raises(Conflict, match="artifact"):
        store.run(finish(running, outputs=[Output("a", sha256("a"), 1, taken)]))
    with pytest.raises(Conflict, match="artifact"):
        store.run(artifact.register("other", sha256=sha256("a"), size=1, uuid=taken))
    assert store.run(job.get(running)).state == "running"


def test_no_job_reads_what_it_makes(store: AnyStore, of_submit: UUID) -> None:
    own = Output("a", sha256("a"), 1)
    with pytest.raises(InvalidInput, match="circle"):
        job.record(ended(uuid7(), of_submit, inputs=[own.uuid], outputs=[own]))


def test_jobs_that_lack_something_are_not_recorded(
    store: AnyStore, of_submit: UUID, running: UUID
) -> None:
    """While all shared values are known, as after the first job."""
    unknown = uuid7()
    with pytest.raises(NotFound, match="submit"):
        store.run(job.record_all([ended(uuid7(), of_submit), ended(uuid7(), unknown)]))
    with pytest.raises(NotFound, match=str(unknown)):
        store.run(
            job.record_all([ended(uuid7(), of_submit), ended(uuid7(), of_submit, inputs=[unknown])])
        )
    with pytest.raises(NotFound, match="submit"):
        store.run(job.record(ended(uuid7(), unknown)))
    with pytest.raises(NotFound, match=str(unknown)):
        store.run(job.record(ended(uuid7(), of_submit, inputs=[unknown])))
    assert [one.uuid for one in store.run(report.jobs())] == [running]


def test_jobs_of_which_some_are_recorded(store: AnyStore, of_submit: UUID) -> None:
    jobs = [ended(uuid7(), of_submit, log=str(n)) for n in range(3)]
    first = store.run(job.record(jobs[1]))
    assert store.run(job.record(jobs[1])) == first
    prints = store.run(job.record_all(jobs))
    assert prints[1] == first
    assert [store.run(job.log(one.uuid)) for one in jobs] == ["0", "1", "2"]
    assert store.run(job.record_all([])) == []


def test_a_job_is_recorded_with_what_came_before_it_in_the_same_call(store: AnyStore) -> None:
    of_submit, made = uuid7(), Output("a", sha256("a"), 1)
    first = ended(uuid7(), of_submit, env={"NEW": "1"}, outputs=[made])
    second = ended(uuid7(), of_submit, package="new", inputs=[made.uuid])
    for _ in range(2):
        store.run(create(of_submit), job.record(first), job.record(second))
    assert [a.path for a in store.run(job.inputs(second.uuid))] == ["a"]


def test_a_list_has_the_newest_first_and_goes_on_where_the_page_ended(
    store: AnyStore, of_submit: UUID
) -> None:
    uuids = [uuid7() for _ in range(5)]
    for uuid, seconds in zip(uuids, [0, 1, 1, 2, 3], strict=True):
        store.run(start(uuid, of_submit, started_at=later(seconds)))
    expected = sorted(zip([later(s) for s in (0, 1, 1, 2, 3)], uuids, strict=True), reverse=True)
    seen: list[job.Job] = []
    while page := store.run(report.jobs(limit=2, before=seen[-1].uuid if seen else None)):
        assert len(page) <= 2
        seen += page
    assert [(found.started_at, found.uuid) for found in seen] == expected


@pytest.mark.parametrize(
    ("mine", "filters"),
    [
        ({"package": "curl"}, {"package": "curl"}),
        ({"version": "9"}, {"version": "9"}),
        ({"image": "alpine"}, {"image": "alpine"}),
        ({"endpoint": "builder-2"}, {"endpoint": "builder-2"}),
        ({"env": {"K": "v"}}, {"env": "K=v"}),
        ({"started_at": later(10)}, {"newer_than": later(10)}),
        ({"started_at": later(-10)}, {"older_than": later(-9)}),
        ({"package": "curl", "env": {"K": "v"}}, {"package": "curl", "env": "K=v"}),
    ],
)
def test_a_filter_keeps_what_it_names(
    store: AnyStore, of_submit: UUID, mine: dict[str, Any], filters: dict[str, Any]
) -> None:
    uuid = uuid7()
    store.run(start(uuid7(), of_submit))
    store.run(start(uuid, of_submit, **mine))
    assert [found.uuid for found in store.run(report.jobs(**filters))] == [uuid]
    store.run(finish(uuid))
    assert [found.uuid for found in store.run(report.jobs(state="success", **filters))] == [uuid]
    assert store.run(report.jobs(state="error", of_submit=of_submit, **filters)) == []


def test_a_repeated_sweep_gives_what_it_has_marked_and_marks_no_more(
    store: AnyStore, of_submit: UUID, connection: psycopg.Connection[Any]
) -> None:
    first, second, third, act = (uuid7() for _ in range(4))
    silent: dict[str, Any] = {"silent_for": timedelta(minutes=30)}
    for uuids in ([first, second], [third]):
        store.run(*(start(uuid, of_submit) for uuid in uuids))
        connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 hour'")
        # The same statement, another one of the same act, and both together.
        one = job.sweep(uuid=act, **silent)
        assert store.run(one) == store.run(one) == [first, second]
        assert store.run(job.sweep(uuid=act, limit=1, **silent)) == [first, second]
        assert store.run(one, one, job.get(uuids[0]))[:2] == ([first, second], [first, second])
    assert store.run(job.get(third)).state == "running"
    other = job.sweep(**silent)
    assert store.run(other) == store.run(other) == [third]
    # An end of its builder's is told that it has ended, also where the builder gives up on it.
    for end in (finish(first, state="lost"), finish(first, "a", state="lost"), finish(first)):
        for statements in ([end], [job.get(second), end]):
            with pytest.raises(NotRunning, match="its state is lost"):
                store.run(*statements)


def test_a_sweep_needs_a_time() -> None:
    with pytest.raises(InvalidInput, match="silent_for"):
        job.sweep(silent_for=timedelta(0))
