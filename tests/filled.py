"""A store with a row in every table and something to say in every report.

`WRITTEN` fills it. `STATEMENTS` are run on it, and `REPORTS` has parameters of each report, the
optional ones too, such that each choice of them finds rows.
"""

from collections.abc import Mapping
from datetime import timedelta
from inspect import signature
from typing import Any, get_args
from uuid import UUID

from samples import HASH, TIME, buildplan, create, ended, finish, later, sha256, start, tree

from butido_store import Statement, artifact, job, release, report, submit
from butido_store.artifact import Output

SUBMIT, DONE, NEXT, RUNNING, NEW, TWIN, BROKEN, RELEASE, LATER = (UUID(int=n) for n in range(1, 10))
UNSAID = UUID(int=10)
SOURCE, LIBRARY, PROGRAM, MADE, OTHER = (UUID(int=n) for n in range(11, 16))
LAST = UUID(int=2**128 - 1)

# What quoting could get wrong on the way: through psql's variables, arrays, and output.
ODD = "it's \"odd\", {NULL} \\ \\n :'x' $1 %s ü🐘\n\t,;"
ENV = {"LANG": "C.UTF-8", "ODD": ODD}
FILE = ("src/zlib.tar.gz", sha256("src/zlib.tar.gz"), 15)
MEASURED = {"cpu_seconds": 1.5, ODD: -1, "large": 1e16}
IMAGE = sha256("debian:12")
STARTED: dict[str, Any] = {
    "env": ENV,
    "script": ODD,
    "inputs": [LIBRARY, SOURCE],
    "image_sha256": IMAGE,
}

WRITTEN: tuple[Statement[object], ...] = (
    create(SUBMIT, env=ENV, actor=ODD, labels={"odd": ODD, "ci": "nightly"}),
    create(LATER, timestamp=later(2)),
    artifact.register(FILE[0], sha256=FILE[1], size=FILE[2], uuid=SOURCE),
    start(DONE, SUBMIT, env=ENV, inputs=[SOURCE], container_hash="c0ffee"),
    job.append_log(DONE, seq=0, data=ODD + "\n"),
    job.append_log(DONE, seq=1, data=b"\xff\0\\x41"),
    finish(DONE, outputs=[Output("lib/libz.a", sha256("libz.a"), 6, LIBRARY)]),
    start(NEXT, SUBMIT, started_at=later(70), **STARTED),
    finish(
        NEXT,
        finished_at=later(79),
        outputs=[Output(ODD, sha256(ODD), 0, PROGRAM)],
        reason=ODD,
        exit_code=0,
        measurements=MEASURED,
    ),
    # The same, where nobody says what the image's name means.
    start(UNSAID, SUBMIT, started_at=later(71), **STARTED | {"image_sha256": None}),
    finish(UNSAID, finished_at=later(77), outputs=[]),
    start(RUNNING, SUBMIT, started_at=later(80), **STARTED),
    job.append_log(RUNNING, seq=0, data=ODD),
    # Just what was done before, with another outcome; then a failure.
    start(TWIN, SUBMIT, started_at=later(72), env=ENV, inputs=[SOURCE]),
    finish(TWIN, finished_at=later(78), outputs=[Output("lib/libz.a", sha256("other"), 6, OTHER)]),
    start(BROKEN, SUBMIT, started_at=later(90), env=ENV, inputs=[OTHER], image_sha256=IMAGE),
    job.append_log(BROKEN, seq=0, data=f"{ODD}\nerror: no space\n"),
    finish(BROKEN, state="error", finished_at=later(95), exit_code=-9),
    submit.reuse(LATER, [DONE, NEXT], timestamp=later(3)),
    # One file in a place after another.
    release.create(LAST, store="stable", timestamp=TIME, actor=ODD, artifacts=[OTHER]),
    release.withdraw(
        store="stable", artifact=OTHER, timestamp=later(1), actor=ODD, reason="differs"
    ),
    release.create(RELEASE, store="stable", timestamp=later(2), actor=ODD, artifacts=[LIBRARY]),
)

# What the library sends in each of its files, with all that is optional.
STATEMENTS: tuple[Statement[object], ...] = (
    artifact.get(PROGRAM),
    artifact.register(ODD, sha256=sha256(""), size=0, uuid=NEW),
    artifact.reusable(
        package="zlib",
        version="1.3",
        image="debian:12",
        script=ODD,
        env=ENV,
        inputs=[FILE[:2], ("lib/libz.a", sha256("libz.a"))],
        image_sha256=IMAGE,
    ),
    job.append_log(RUNNING, seq=1, data=ODD + "\0"),
    job.env(DONE),
    job.get(DONE),
    job.heartbeat(RUNNING),
    job.inputs(NEXT),
    job.log(RUNNING),
    job.log_after(RUNNING, after=0, characters=3),
    job.refresh_failures(before=TWIN, limit=1),
    finish(
        RUNNING,
        state="error",
        outputs=[Output("b", sha256("b"), 1, MADE), Output(ODD, sha256("a"), 2**62, NEW)],
        reason=ODD,
        exit_code=-(2**63),
        measurements=MEASURED,
    ),
    job.once(
        start(LAST, SUBMIT, env=ENV, inputs=[SOURCE], image_sha256=IMAGE),
        silent_for=timedelta(minutes=1),
        besides=[DONE, TWIN],
    ),
    job.outputs(NEXT),
    job.record_all(
        [
            ended(
                NEW,
                SUBMIT,
                inputs=[SOURCE],
                env=ENV,
                log=ODD,
                outputs=[Output(ODD, sha256(""), 0, MADE)],
            ),
            ended(
                LAST,
                SUBMIT,
                state="error",
                inputs=[MADE],
                env=ENV,
                log=b"\xff",
                image_sha256=IMAGE,
                container_hash=ODD,
                reason=ODD,
                exit_code=2**63 - 1,
                measurements=MEASURED,
            ),
        ]
    ),
    job.record(
        ended(
            NEW,
            SUBMIT,
            inputs=[SOURCE],
            env=ENV,
            log=b"\xff" + ODD.encode(),
            image_sha256=IMAGE,
            container_hash=ODD,
            outputs=[Output(ODD, sha256(""), 0, MADE)],
            reason=ODD,
            exit_code=1,
            measurements=MEASURED,
        )
    ),
    job.script(NEXT),
    job.set_container(RUNNING, ODD),
    job.sweep(silent_for=timedelta(minutes=30), endpoint="builder-1", limit=1),
    release.withdraw(store="stable", artifact=LIBRARY, timestamp=TIME, actor=ODD, reason=ODD),
    submit.env(SUBMIT),
    submit.get(SUBMIT),
    submit.reuse(LATER, [TWIN, DONE], timestamp=later(4)),
    create(
        NEW,
        env=ENV,
        tree=tree("zlib", ODD.replace("\t", "")),
        buildplan=buildplan(NEW),
        actor=ODD,
        labels={ODD.replace("=", ""): ODD},
    ),
)

_TIMES = {"newer_than": TIME, "older_than": later(100)}
_VARIABLES = [f"{name}={value}" for name, value in ENV.items()]

# Of these parameters one at least has to be given.
ONE_OF: Mapping[str, tuple[str, ...]] = {
    "impact": ("artifact", "package", "commit", "image", "endpoint"),
    "search_log": ("text", "regex"),
}
# And these only beside another.
BESIDE: Mapping[str, Mapping[str, str]] = {
    "impact": {"version": "package"},
    "jobs": {"before_at": "before"},
    "submits": {"with_version": "with_pkg", "before_at": "before"},
}

REPORTS: Mapping[str, Mapping[str, object]] = {
    "artifacts": {
        "job": NEXT,
        "path": ODD,
        "sha256": sha256(ODD),
        "before": LAST,
        "limit": 1,
    },
    "durations": {
        "package": "zlib",
        "image": "debian:12",
        "endpoint": "builder-1",
        "limit": 1,
        **_TIMES,
    },
    "endpoints": {"limit": 1},
    "envvars": {"name": "ODD", "limit": 1},
    "expected_duration": {
        "package": "zlib",
        "version": "1.3",
        "image": "debian:12",
        "endpoint": "builder-1",
    },
    "explain_miss": {
        "package": "zlib",
        "version": "1.4",
        "image": "debian:13",
        "script": ODD,
        "env": ["LANG=C", f"NEW={ODD}", "EMPTY="],
        "inputs": [
            f"{sha256(path).hex()}  {path}" for path in (FILE[0], ODD, "lib/libz.a", "more")
        ],
        "image_sha256": IMAGE,
        "limit": 3,
    },
    "failures": {
        "package": "zlib",
        "failure": sha256("error: no space"),
        "limit": 1,
        **_TIMES,
    },
    "find_artifact": {
        "package": "zlib",
        "version": "1.3",
        "image": "debian:12",
        "image_sha256": IMAGE,
        "allow_image": ["debian:12", ODD],
        "deny_image": ["debian:11", ODD],
        "script": ODD,
        "env": _VARIABLES,
        "limit": 1,
    },
    "history": {"package": "zlib", "image": "debian:12", "endpoint": "builder-1"},
    "images": {"limit": 1},
    "impact": {
        "artifact": SOURCE,
        "package": "zlib",
        "version": "1.3",
        "commit": HASH,
        "image": "debian:12",
        "endpoint": "builder-1",
        "limit": 3,
    },
    "irreproducible": {"package": "zlib", "limit": 1, **_TIMES},
    "job": {"job": NEXT, "log": True, "script": True, "env": True},
    "jobs": {
        "of_submit": LATER,
        "package": "zlib",
        "version": "1.3",
        "image": "debian:12",
        "endpoint": "builder-1",
        "state": "success",
        "reason": ODD,
        "env": f"ODD={ODD}",
        "before": RUNNING,
        "before_at": later(75),
        "limit": 1,
        **_TIMES,
    },
    "measurements": {
        "package": "zlib",
        "name": ODD,
        "image": "debian:12",
        "state": "success",
        "limit": 1,
        **_TIMES,
    },
    "metrics": {},
    "packages": {"name": "zlib", "limit": 1},
    "provenance": {"artifact": PROGRAM},
    "regressions": {
        "package": "zlib",
        "image": "debian:12",
        "endpoint": "builder-1",
        "newer_than": TIME,
        "limit": 1,
    },
    "releases": {
        "store": "stable",
        "package": "zlib",
        "artifact": LIBRARY,
        "history": True,
        "limit": 1,
        **_TIMES,
    },
    "reused": {"package": "zlib", "limit": 1, **_TIMES},
    "savings": {"package": "zlib", "per": "day", "limit": 1, **_TIMES},
    "search_log": {
        "text": "odd",
        "regex": "^it.s",
        "of_submit": SUBMIT,
        "package": "zlib",
        "state": "success",
        "limit": 1,
        **_TIMES,
    },
    "slsa": {"artifact": PROGRAM, "builder": "https://example.org/builder"},
    "submit": {"submit": SUBMIT},
    "submits": {
        "for_pkg": "zlib",
        "for_version": "1.3",
        "with_pkg": "gcc",
        "with_version": "1.0",
        "image": "debian:12",
        "commit": HASH,
        "actor": ODD,
        "label": [f"odd={ODD}", "ci=nightly"],
        "before": LATER,
        "before_at": later(60),
        "limit": 1,
        **_TIMES,
    },
}


def _row_type(name: str) -> type[Any]:
    (rows,) = get_args(signature(getattr(report, name)).return_annotation)
    (row,) = get_args(rows)
    assert isinstance(row, type)
    return row


ROW_TYPES: Mapping[str, type[Any]] = {name: _row_type(name) for name in REPORTS}
