"""What a statement or a job shows of itself: which queries, and no script, log or environment."""

import traceback
from typing import Any

import pytest
from samples import TIME, create, ended, finish, sha256, start

from butido_store import artifact, job, report, uuid7
from butido_store.artifact import Output
from butido_store.errors import InvalidInput

SECRET = "hunter2"
ENV = {"PASSWORD": SECRET}
SAID: dict[str, Any] = {"package": "zlib", "version": "1.3", "image": "debian:12"}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (start(uuid7(), uuid7(), script=SECRET, env=ENV), "job/insert"),
        (job.record(ended(uuid7(), uuid7(), script=SECRET, log=SECRET, env=ENV)), "job/insert"),
        (job.record_all([ended(uuid7(), uuid7(), script=SECRET, env=ENV)]), "job/insert_all"),
        (create(uuid7(), env=ENV), "submit/create"),
        (job.append_log(uuid7(), seq=0, data=SECRET), "job/insert_chunk"),
        (artifact.reusable(**SAID, script=SECRET, env=ENV, inputs=[]), "artifact/reusable"),
        (report.find_artifact("zlib", script=SECRET, env=["A=hunter2"]), "report/find_artifact"),
        (finish(uuid7(), state="error", finished_at=TIME), "job/end"),
        (ended(uuid7(), uuid7(), script=SECRET, log=SECRET, env=ENV), "zlib"),
    ],
)
def test_it_names_what_it_is_and_shows_no_secret(value: object, named: str) -> None:
    for shown in (repr(value), str(value), f"{getattr(value, 'steps', value)}"):
        assert named in shown
        assert SECRET not in shown
        assert len(shown) < 700


def test_a_traceback_with_variables_shows_no_secret() -> None:
    made = Output("a", sha256("a"), 1)
    one = ended(
        uuid7(), uuid7(), script=SECRET, log=SECRET, env=ENV, inputs=[made.uuid], outputs=[made]
    )
    with pytest.raises(InvalidInput, match="circle") as raised:
        job.record(one)
    # From the library on: the caller's own variables are the caller's.
    told = traceback.TracebackException(
        *(type(raised.value), raised.value, raised.tb.tb_next), capture_locals=True
    )
    shown = "".join(told.format())
    assert "documents = " in shown
    assert SECRET not in shown
