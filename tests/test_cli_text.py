"""What the command line makes of text: CSV that parses, texts as stored, nothing hidden."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from commandline import Shell, Terminal
from filled import REPORTS, ROW_TYPES
from hypothesis import given
from hypothesis import strategies as st
from samples import TIME, create, ended, finish, later, sha256, start

from butido_store import Store, job, release, submit, uuid7
from butido_store.artifact import Output
from butido_store.cli.output import formats
from butido_store.cli.tables import text_of

pytestmark = pytest.mark.any_server

SUBMIT, JOB, RUNNING, TWIN, LIBRARY, PROGRAM = (UUID(int=n << 96 | n) for n in range(1, 7))
# A title that is set, a screen that is erased, colours, text that runs backwards, what is not
# seen, and an end of line that only some know; also after a line break, where a line begins anew.
EVIL = "a\x1b]0;own\x07\x9b2J\u202e\u2066\u200b\x7f\u2028\n\x1b[2Jb\rc"
SCRIPT = "#!/bin/sh\r\nif true; then\n\techo \x1b[1m[bold]x[/bold] :tada:\n\n\nfi \\"
LOG = "\x1b[01;31merror\x1b[m\r\n10 %\r20 %\n\tlast\n\n"


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


@pytest.fixture
def evil(store: Store) -> None:
    """Give every name that a builder may choose what acts on a terminal."""
    env = {"EVIL": EVIL}
    names = {"package": EVIL, "version": EVIL, "image": EVIL, "endpoint": EVIL, "env": env}
    made = Output(EVIL, sha256("a"), 1, LIBRARY)
    store.run(
        create(SUBMIT, package=EVIL, version=EVIL, image=EVIL, env=env),
        start(JOB, SUBMIT, script=SCRIPT, container_hash=EVIL, **names),
        job.append_log(JOB, seq=0, data=LOG),
        finish(JOB, outputs=[made], reason=EVIL, measurements={EVIL: 1}),
        start(TWIN, SUBMIT, script=SCRIPT, inputs=[LIBRARY], started_at=later(70), **names),
        finish(TWIN, finished_at=later(80), outputs=[Output(f"{EVIL}2", sha256("b"), 1, PROGRAM)]),
        start(RUNNING, SUBMIT, started_at=TIME - timedelta(days=1), **names),
        job.append_log(RUNNING, seq=0, data=LOG),
        release.create(
            uuid7(), store=EVIL, timestamp=TIME, actor=EVIL, artifacts=[LIBRARY, PROGRAM]
        ),
        release.withdraw(store=EVIL, artifact=PROGRAM, timestamp=TIME, actor=EVIL, reason=EVIL),
    )
    again = (uuid7(), uuid7())
    store.run(
        *(
            job.record(
                ended(
                    one,
                    SUBMIT,
                    state=state,
                    log=f"error: {EVIL}\n",
                    started_at=later(100 + place),
                    finished_at=later(200),
                    outputs=[Output("x", sha256(str(place)), 1)],
                    **names,
                )
            )
            for place, (one, state) in enumerate(zip(again, ("success", "success"), strict=True))
        )
    )
    failed = {"state": "error", "started_at": later(300), "finished_at": later(301)}
    store.run(job.record(ended(uuid7(), SUBMIT, log=f"error: {EVIL}\n", **failed, **names)))
    later_one = create(other := uuid7(), actor=EVIL, labels={EVIL: EVIL})
    store.run(later_one, submit.reuse(other, [JOB], timestamp=TIME))


# What asks each report for what is there.
ASKED: dict[str, list[str]] = {
    **{name: [] for name in REPORTS},
    "expected_duration": [EVIL],
    "explain_miss": [EVIL, "--version=2", "--image=b", "--script=\x1b[2J", "--env=X=\x1b[2J"],
    "find_artifact": [EVIL],
    "history": [EVIL],
    "impact": [f"--image={EVIL}"],
    "job": [str(JOB), "--env"],
    "provenance": [str(PROGRAM)],
    "releases": ["--history"],
    "search_log": ["--text=error"],
    "slsa": [str(PROGRAM)],
    "submit": [str(SUBMIT)],
}


def hidden(text: str, keep: str) -> set[str]:
    """Return what a text holds that acts on a terminal, or is not seen there."""
    unseen = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {c for c in text if c not in keep and unicodedata.category(c) in unseen}


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("name", REPORTS)
def test_nothing_hidden_is_printed(shell: Shell, name: str) -> None:
    for format_ in formats(ROW_TYPES[name]):
        done = shell(name.replace("_", "-"), f"--format={format_}", *ASKED[name])
        assert done.exit_code == 0, done.output
        assert done.stdout_bytes
        # The line breaks of CSV are within quotes. A script has tabs.
        keep = ("\r\n" if format_ == "csv" else "\n") + "\t" * (name == "explain_miss")
        assert hidden(done.stdout_bytes.decode(), keep) == set(), format_


@pytest.mark.usefixtures("evil")
def test_json_has_every_value_as_it_is(shell: Shell) -> None:
    for words in (["jobs", "--format=json"], ["jobs", "--format=jsonl", "--limit=1"]):
        found = json.loads(shell(*words).stdout)
        assert (found[0] if isinstance(found, list) else found)["package"] == EVIL
    assert json.loads(shell("submit", "--format=jsonl", str(SUBMIT)).stdout)["env"]["EVIL"] == EVIL


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "--format=csv"],
        ["jobs", "--wide"],
        ["job", "--log", "--script", str(JOB)],
        ["submit", str(SUBMIT)],
        ["impact", f"--artifact={LIBRARY}"],
        ["log-of", str(RUNNING)],
        ["search-log", "--text=error"],
        ["jobs", "\x1b[2J"],
    ],
)
def test_nothing_hidden_comes_to_a_terminal(terminal: Terminal, words: list[str]) -> None:
    shown = terminal(*words)
    assert "\\x1b[" in shown.text
    assert hidden(shown.text.replace("\r\n", "\n"), "\n\t") == set()


@pytest.mark.usefixtures("evil")
def test_a_log_is_as_it_is_where_no_terminal_is_or_it_is_asked_for(
    shell: Shell, terminal: Terminal
) -> None:
    assert shell("log-of", str(RUNNING)).stdout_bytes == LOG.encode()
    assert terminal("log-of", "--raw", str(RUNNING)).text == LOG
    seen = LOG.replace("\x1b", "\\x1b").replace("\r", "\\r")
    assert terminal("log-of", str(RUNNING)).text == seen


@pytest.mark.usefixtures("evil")
def test_script_and_log_are_printed_as_they_are_stored(shell: Shell) -> None:
    shown = shell("job", "--script", "--log", str(JOB)).stdout_bytes.decode()
    assert f"\nscript\n{SCRIPT}\n\nlog\n{LOG}\n" in shown


@pytest.mark.usefixtures("evil")
def test_a_difference_of_scripts_shows_what_is_not_seen(shell: Shell) -> None:
    words = ["explain-miss", EVIL, f"--version={EVIL}", f"--image={EVIL}", f"--env=EVIL={EVIL}"]
    shown = shell(*words, "--script", SCRIPT.replace("\r", "")).stdout
    assert "-#!/bin/sh\\r\n" in shown
    assert "+#!/bin/sh\n" in shown


@pytest.mark.parametrize(
    "odd", ["a\nb", "a\rb", "a\r\nb", 'a"b', "a,b", '"', "\n", " a ", "=1+1", "+1", "-1", "@x", "ü"]
)
def test_csv_parses_to_what_is_stored(shell: Shell, store: Store, odd: str) -> None:
    """What begins like a formula is no other value, and a line break makes no row."""
    store.run(create(SUBMIT), start(JOB, SUBMIT, package=odd, endpoint=odd))
    text = shell("jobs", "--format=csv").stdout_bytes.decode()
    assert text.count("\r\n") == 2 + 2 * odd.count("\r\n")
    assert text.endswith("\r\n")
    columns, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert [dict(zip(columns, row, strict=True))["package"] for row in rows] == [odd]
    # A column alone, whose lines are no cells beside others.
    text = shell("endpoints", "--format=csv", "--columns=name").stdout_bytes.decode()
    assert [*csv.reader(io.StringIO(text, newline=""), strict=True)] == [["name"], [odd]]


def test_a_job_that_ended_before_it_started_has_a_negative_duration(
    shell: Shell, terminal: Terminal, store: Store
) -> None:
    """As builders whose clock was set back record them."""
    store.run(create(SUBMIT), job.record(ended(JOB, SUBMIT, finished_at=later(-4))))
    words = ["job", "--columns=duration", str(JOB)]
    for shown in (shell(*words).stdout, terminal(*words).text):
        assert shown.split() == ["duration", "-0:00:05"]
    assert json.loads(shell(*words, "--format=jsonl").stdout) == {"duration": -5.0}
    assert shell(*words, "--format=csv").stdout.split() == ["duration", "-5.0"]


@given(seconds=st.integers(-(10**7), 10**7))
def test_a_duration_has_its_sign_first(seconds: int) -> None:
    text = text_of(timedelta(seconds=seconds))
    days, _, clock = text.removeprefix("-").rpartition(", ")
    hours, minutes, rest = map(int, clock.split(":"))
    whole = int(days.split()[0] if days else 0) * 86400 + hours * 3600 + minutes * 60 + rest
    assert (-whole if text.startswith("-") else whole) == seconds
