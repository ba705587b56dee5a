"""A variable that is a secret by its name: equal where it is equal, and shown nowhere."""

import asyncio
import hmac
import json
import socket
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from commandline import Shell
from conftest import Postgres
from doors import Both
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import create, ended, finish, start

from butido_store import AsyncStore, Secrets, Statement, Store, artifact, job, report, submit, uuid7
from butido_store._query import query
from butido_store.errors import Conflict, ConnectionFailed, InvalidInput, StoreError

Connection = psycopg.Connection[Any]

KEY = b"only the builders have this key"
SECRETS = Secrets(KEY)
# Of what is a secret in these tests, each value begins so, and of nothing else.
MARK = "hunter2"
ENV = {"LANG": "C", "API_TOKEN": MARK}
SAID: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "script": "#!/bin/sh\nmake\n",
}
FILES = [("src/zlib.tar.gz", b"\1" * 32)]


def digest(name: str, value: str, key: bytes = KEY) -> str:
    return hmac.new(key, f"{name}={value}".encode(), "sha256").hexdigest()


def same(env: dict[str, str]) -> Statement[artifact.Reuse | None]:
    return artifact.reusable(**SAID, env=env, inputs=[])


def build(store: Store, env: dict[str, str]) -> UUID:
    """Record a submit and a successful job that have this environment."""
    of_submit, uuid = uuid7(), uuid7()
    store.run(create(of_submit, env=env), start(uuid, of_submit, env=env))
    store.run(finish(uuid, f"lib/{uuid}"))
    return uuid


Opened = Callable[..., Store]


@pytest.fixture
def opened(dsn: str, schema: str) -> Iterator[Opened]:
    """Open stores with these secrets."""
    stores = []

    def open_(secrets: Secrets = SECRETS) -> Store:
        stores.append(Store.connect(dsn, schema=schema, secrets=secrets))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture
def keyed(opened: Opened) -> Store:
    """A store with a key."""
    return opened()


def dump(postgres: Postgres, dsn: str) -> str:
    """Return all that the database holds."""
    done = subprocess.run([postgres.pg_dump, dsn], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reports(store: Store, uuid: UUID, env: dict[str, str]) -> list[object]:
    """Return what all tell of a job that can tell of its environment."""
    (made,) = store.run(job.outputs(uuid))
    of_submit = store.run(job.get(uuid)).submit_uuid
    pairs = [f"{name}={value}" for name, value in env.items()]
    missed = {**SAID, "env": ["NEW=1"], "inputs": []}
    return [
        store.run(job.env(uuid)),
        store.run(submit.env(of_submit)),
        store.run(report.job(uuid, env=True)),
        store.run(report.submit(of_submit)),
        store.run(report.slsa(made.uuid)),
        store.run(report.envvars(limit=None)),
        store.run(report.explain_miss(**missed)),
        store.run(report.explain_miss(**missed | {"env": pairs})),
        list(store.stream(report.jobs(env=pairs[0], limit=None))),
        store.run(report.find_artifact("zlib", env=pairs)),
    ]


# What is equal ----------------------------------------------------------------------------------


def test_the_same_secret_is_the_same_build(opened: Opened) -> None:
    store = opened()
    uuid = build(store, ENV)
    found = store.run(same(ENV))
    assert found is not None
    assert found.job_uuid == uuid
    assert store.run(same({**ENV, "API_TOKEN": f"{MARK}!"})) is None
    # Another builder, with a key that is equal.
    assert opened(Secrets(bytes(KEY))).run(same(ENV)) == found
    # Of another key, nothing is known.
    assert opened(Secrets(KEY + b"!")).run(same(ENV)) is None
    # Nor is it the same as one that is stored in clear.
    assert opened(Secrets(patterns=())).run(same(ENV)) is None


def test_every_question_finds_it_by_its_value(opened: Opened) -> None:
    store = opened()
    uuid, other = build(store, ENV), build(store, {**ENV, "API_TOKEN": f"{MARK}!"})
    (found,) = store.run(report.jobs(env=f"API_TOKEN={MARK}"))
    assert found.uuid == uuid
    (file,) = store.run(report.find_artifact("zlib", env=["LANG=C", f"API_TOKEN={MARK}"]))
    assert file.job_uuid == uuid
    wanted = {**SAID, "env": ["LANG=C", f"API_TOKEN={MARK}"], "inputs": []}
    hit, miss = store.run(report.explain_miss(**wanted))
    assert (hit.job_uuid, hit.env) == (uuid, None)
    hidden = {"name": "API_TOKEN", "old": "<redacted>", "new": "<redacted>"}
    assert (miss.job_uuid, miss.env) == (other, [hidden])
    again = start(uuid7(), store.run(job.get(uuid)).submit_uuid, env=ENV)
    once = job.once(again, silent_for=timedelta(days=365_000))
    assert store.run(once) == store.run(same(ENV))


def test_a_repeated_write_is_the_same_and_a_conflict_shows_nothing(opened: Opened) -> None:
    store, of_submit, uuid, whole = opened(), uuid7(), uuid7(), uuid7()
    other = {**ENV, "API_TOKEN": f"{MARK}!"}
    for make in (
        lambda env: create(of_submit, env=env),
        lambda env: start(uuid, of_submit, env=env),
        lambda env: job.record(ended(whole, of_submit, env=env)),
        lambda env: job.record_all([ended(whole, of_submit, env=env)]),
    ):
        first: object = store.run(make(ENV))
        assert store.run(make(ENV)) == first
        with pytest.raises(Conflict, match=r"with other content: env$") as raised:
            store.run(make(other))
        assert MARK not in "".join(traceback.format_exception(raised.value))


def test_what_looks_like_a_secret_is_none(opened: Opened, connection: Connection) -> None:
    secret = build(opened(), ENV)
    clear = opened(Secrets(patterns=()))
    texts = [
        "<redacted>",
        digest("API_TOKEN", MARK),
        f'{{"hmac_sha256": "{digest("API_TOKEN", MARK)}"}}',
    ]
    for text in texts:
        assert clear.run(same({**ENV, "API_TOKEN": text})) is None
        assert clear.run(report.jobs(env=f"API_TOKEN={text}")) == []
        build(clear, {**ENV, "API_TOKEN": text})
    stored = connection.execute(
        "SELECT value, value_hmac FROM envvar WHERE name = 'API_TOKEN' ORDER BY id"
    ).fetchall()
    assert stored[0] == ("<redacted>", bytes.fromhex(digest("API_TOKEN", MARK)))
    assert stored[1:] == [(text, None) for text in texts]
    assert [found.uuid for found in opened().run(report.jobs(env=f"API_TOKEN={MARK}"))] == [secret]


def test_equal_values_of_two_names_do_not_show_as_equal(
    opened: Opened, connection: Connection
) -> None:
    build(opened(), {"API_TOKEN": MARK, "OTHER_TOKEN": MARK})
    assert connection.execute("SELECT count(DISTINCT value_hmac) FROM envvar").fetchone() == (2,)


@pytest.mark.parametrize(
    ("patterns", "name", "is_secret"),
    [
        (None, "API_TOKEN", True),
        (None, "npm_config_token", True),
        (None, "Secret", True),
        (None, "PGPASSWORDS", True),
        (None, "SECRE", False),
        (None, "PASSPHRASE", False),
        (("*KEY",), "SIGNING_KEY", True),
        (("*KEY",), "KEY_FILE", False),
        (("*KEY",), "API_TOKEN", False),
        (("A.B",), "AxB", False),
        (("[AB]?", "C"), "bx", True),
        (("*",), "anything\nat all", True),
        ((), "SECRET", False),
    ],
)
def test_a_name_is_a_secrets_by_the_patterns(
    patterns: tuple[str, ...] | None, name: str, is_secret: bool, opened: Opened
) -> None:
    secrets = Secrets(KEY) if patterns is None else Secrets(KEY, patterns)
    store = opened(secrets)
    assert secrets.hides(name) is is_secret
    assert store.run(job.env(build(store, {name: "x"})))[name] == (
        "<redacted>" if is_secret else "x"
    )


# What is shown ----------------------------------------------------------------------------------

_WORDS = st.sampled_from(["token", "Token", "PASSWORD", "passw0rd", "SECRET", "SECRE", "TOK", "_"])
_AROUND = st.text("AbC_:.\n'\"\\{ü🐘", max_size=3)
_NAMES = st.builds("".join, st.tuples(_AROUND, _WORDS, _AROUND, _WORDS, _AROUND))
_VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


@given(pairs=st.lists(st.tuples(_NAMES, _VALUES), min_size=1, max_size=6))
def test_no_value_is_found_anywhere(
    pairs: list[tuple[str, str]], keyed: Store, postgres: Postgres, dsn: str
) -> None:
    env = {name: (MARK if SECRETS.hides(name) else "") + value for name, value in pairs}
    uuid = build(keyed, env)
    whole = ended(uuid7(), keyed.run(job.get(uuid)).submit_uuid, env=env)
    keyed.run(job.record(whole))
    shown = reports(keyed, uuid, env)
    assert MARK not in repr(shown) + dump(postgres, dsn)
    stored = {name: "<redacted>" if SECRETS.hides(name) else env[name] for name in env}
    assert shown[:2] == [stored, stored]
    # Each of them would have shown it.
    assert all(shown)
    found = keyed.run(same(env))
    assert found is not None
    assert found.job_uuid in (uuid, whole.uuid)


def test_nor_by_psql_and_the_command_line(
    opened: Opened,
    postgres: Postgres,
    dsn: str,
    schema: str,
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = opened()
    uuid = build(store, ENV)
    of_submit, (made,) = store.run(job.get(uuid)).submit_uuid, store.run(job.outputs(uuid))
    both = Both(postgres, dsn, schema, schema, tmp_path)
    named = f"API_TOKEN:{digest('API_TOKEN', MARK)}"
    wanted = {**SAID, "env": [f"API_TOKEN:{'0' * 64}"], "inputs": []}
    for name, given_ in (
        ("job/env", {"job": uuid}),
        ("submit/env", {"submit": of_submit}),
        ("report/job", {"job": uuid, "env": True}),
        ("report/submit", {"submit": of_submit}),
        ("report/slsa", {"artifact": made.uuid}),
        ("report/envvars", {}),
        ("report/explain_miss", wanted),
    ):
        found = both.by_psql(query(name), given_)
        assert found == both.by_library(query(name), given_)
        assert "<redacted>" in str(found.rows)
        assert MARK not in str(found)
    for name, given_ in (
        ("report/jobs", {"env": named}),
        ("report/find_artifact", {"package": "zlib", "env": ["LANG=C", named]}),
    ):
        assert str(uuid) in str(both.by_psql(query(name), given_).rows)
    # Who has no key does not find it.
    assert both.by_psql(query("report/jobs"), {"env": f"API_TOKEN={MARK}"}).rows == []

    (tmp_path / "key").write_bytes(KEY + b"\n")
    monkeypatch.setenv("BUTIDO_STORE_SECRET_KEY_FILE", str(tmp_path / "key"))
    asked = ["-E", f"API_TOKEN={MARK}", "-E", "LANG=C"]
    missed = ["--version=1.3", "--image=debian:12", "--script=x", "-E", f"API_TOKEN={MARK}!"]
    for words in (
        ["job", "-E", str(uuid)],
        ["submit", str(of_submit)],
        ["slsa", str(made.uuid)],
        ["envvars"],
        ["explain-miss", "zlib", *missed],
    ):
        done = shell(*words)
        assert done.exit_code == 0, done.output
        assert "<redacted>" in done.output
        assert MARK not in done.output
    for words in (["jobs", *asked[:2]], ["find-artifact", "zlib", *asked]):
        done = shell(*words, "--format=jsonl")
        assert json.loads(done.stdout).get("job_uuid", str(uuid)) == str(uuid)
        assert MARK not in done.output


@pytest.mark.parametrize("kind", ["check", "gone"])
def test_an_error_of_the_database_shows_nothing(kind: str, clone_dsn: str, schema: str) -> None:
    """PostgreSQL says the whole row that it refuses."""
    breaks = {
        "check": "ALTER TABLE {} ADD CHECK (name <> 'API_TOKEN')",
        "gone": "ALTER TABLE {} DROP COLUMN value CASCADE",
    }
    with Store.connect(clone_dsn, schema=schema, secrets=SECRETS, retry_for=0) as store:
        of_submit = uuid7()
        store.run(create(of_submit))
        with psycopg.connect(clone_dsn) as connection:
            table = sql.Identifier(schema, "envvar")
            connection.execute(sql.SQL(breaks[kind]).format(table))
        with pytest.raises(StoreError) as raised:
            store.run(start(uuid7(), of_submit, env=ENV))
        printed = "".join(traceback.format_exception(raised.value))
        assert "envvar" in printed
        assert MARK not in printed


# Keys -------------------------------------------------------------------------------------------

WITHOUT_KEY: dict[str, Statement[Any]] = {
    "create": create(uuid7(), env=ENV),
    "start": start(uuid7(), uuid7(), env=ENV),
    "record": job.record(ended(uuid7(), uuid7(), env=ENV)),
    "record_all": job.record_all([ended(uuid7(), uuid7()), ended(uuid7(), uuid7(), env=ENV)]),
    "reusable": same(ENV),
    "jobs": report.jobs(env=f"API_TOKEN={MARK}"),
    "find_artifact": report.find_artifact("zlib", env=["LANG=C", f"API_TOKEN={MARK}"]),
    "explain_miss": report.explain_miss(**SAID, env=[f"API_TOKEN={MARK}"], inputs=[]),
}


@pytest.mark.parametrize("name", WITHOUT_KEY)
@pytest.mark.parametrize("kind", ["own", "callers", "transaction"])
def test_without_a_key_a_secret_is_refused_before_anything_is_written(
    name: str, kind: str, dsn: str, schema: str, connection: Connection
) -> None:
    store = Store.connect(dsn, schema=schema) if kind == "own" else Store(connection)
    first = create(uuid7())
    with store, connection.transaction() if kind == "transaction" else store:
        with pytest.raises(InvalidInput, match=r"'API_TOKEN'.*secrets=Secrets\(") as raised:
            store.run(first, WITHOUT_KEY[name])
        assert MARK not in "".join(traceback.format_exception(raised.value))
        (written,) = connection.execute("SELECT count(*) FROM submit").fetchall()
        assert written == (0,)
        # And the store goes on.
        store.run(first)


def test_without_a_key_no_stream_begins(store: Any, dsn: str, schema: str) -> None:
    with (
        Store.connect(dsn, schema=schema) as own,
        pytest.raises(InvalidInput, match="'API_TOKEN'"),
    ):
        next(own.stream(report.jobs(env=f"API_TOKEN={MARK}")))
    with pytest.raises(InvalidInput, match="'API_TOKEN'"):
        store.run(same(ENV))


def test_without_a_key_the_command_line_says_how_to_give_one(shell: Shell) -> None:
    done = shell("jobs", "--env", f"API_TOKEN={MARK}")
    assert done.exit_code == 2
    assert "--env has 'API_TOKEN'" in done.stderr
    assert "BUTIDO_STORE_SECRET_KEY_FILE" in done.stderr
    assert MARK not in done.output


def test_every_way_to_open_a_store_takes_secrets(
    dsn: str, schema: str, connection: Connection
) -> None:
    of_submit = uuid7()
    for number, store in enumerate(
        (
            Store.connect(dsn, schema=schema, secrets=SECRETS),
            Store.pooled(dsn, schema=schema, secrets=SECRETS),
            Store(connection, secrets=SECRETS),
        )
    ):
        with store:
            store.run(create(of_submit, env=ENV))
            assert store.run(submit.env(of_submit))["API_TOKEN"] == "<redacted>", number
    with pytest.raises(InvalidInput, match="secrets must be a Secrets, not bytes"):
        Store.connect(dsn, schema=schema, secrets=KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["connect", "pooled"])
def test_so_does_every_way_to_open_an_async_store(how: str, dsn: str, schema: str) -> None:
    async def run() -> dict[str, str]:
        of_submit = uuid7()
        async with getattr(AsyncStore, how)(dsn, schema=schema, secrets=SECRETS) as store:
            await store.run(create(of_submit, env=ENV))
            found: dict[str, str] = await store.run(submit.env(of_submit))
            return found

    assert asyncio.run(run())["API_TOKEN"] == "<redacted>"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Secrets(b"Sup3rS3cret"), "key has 11 bytes; it must have 16 or more"),
        (lambda: Secrets("Sup3rS3cretSup3rS3cret"), "key must be a bytes, not str"),  # type: ignore[arg-type]
        (lambda: Secrets(KEY, "*"), "patterns must be a list, not str"),  # type: ignore[arg-type]
        (lambda: Secrets(KEY, (b"*",)), r"patterns\[0\] must be a str"),  # type: ignore[arg-type]
        (lambda: Secrets.from_file("/nowhere/key"), "key: /nowhere/key cannot be read: No such"),
    ],
)
def test_a_bad_key_is_refused_and_not_shown(made: Callable[[], Secrets], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as raised:
        made()
    assert "S3cret" not in str(raised.value)


def test_a_key_comes_from_the_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("BUTIDO_STORE_SECRET_KEY_FILE", str(file))
    for line_break in (b"", b"\n", b"\r\n"):
        file.write_bytes(KEY + line_break)
        assert Secrets.from_environment() == Secrets(KEY) == Secrets.from_file(file)
    monkeypatch.setenv("BUTIDO_STORE_SECRET_PATTERNS", "*KEY  *PIN*")
    assert Secrets.from_environment() == Secrets(KEY, ("*KEY", "*PIN*"))
    monkeypatch.setenv("BUTIDO_STORE_SECRET_PATTERNS", "")
    assert Secrets.from_environment() == Secrets(KEY, ())
    file.write_text("Sup3rS3cret")
    done = shell("jobs")
    assert done.exit_code == 2
    assert "key has 11 bytes" in done.stderr
    monkeypatch.delenv("BUTIDO_STORE_SECRET_PATTERNS")
    monkeypatch.delenv("BUTIDO_STORE_SECRET_KEY_FILE")
    assert Secrets.from_environment() == Secrets()


def test_a_repr_shows_no_key_and_no_value() -> None:
    (step,) = start(uuid7(), uuid7(), env=ENV).steps
    for shown in (SECRETS, step.parameters, WITHOUT_KEY["jobs"].steps[0].parameters):
        assert KEY.decode() not in repr(shown)
        assert MARK not in repr(shown)
    assert repr(SECRETS) == "<Secrets *TOKEN* *PASSWORD* *SECRET*, a key>"


# TLS --------------------------------------------------------------------------------------------

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBbTCCAROgAwIBAgIUX4qiYnqDiNPKDUU81k++s+hxQcQwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAeFw0yNjExMjYxNDI3MTJaFw0yNjExMjcxNDI3MTJaMAwx
CjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASaJyqALp7q+mx3
HCBqh6H+qiVeoO0Fl8HC/8VFeOxzGWIhfamudVZyppZec2L2wKRLf//BZWTL1zRg
MRl6AmGZo1MwUTAdBgNVHQ4EFgQUt59AlAN3qOfA+b21WiSVHfNIGXgwHwYDVR0j
BBgwFoAUt59AlAN3qOfA+b21WiSVHfNIGXgwDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiAmrAdFR+UAaxWdU6AI4jNnzeUWXkSJvkdMW+rFCgHEVwIh
AMLPBbC18eJw55DK5tpg4r5Cv7kk1G2XZpnEd1gqF8Ph
-----END CERTIFICATE-----
"""


@contextmanager
def answering(letter: bytes) -> Iterator[int]:
    """Listen, and say to whoever asks whether TLS is spoken here: S for yes, N for no."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    link, _ = listening.accept()
                except OSError:
                    return
                with link:
                    if link.recv(8):
                        link.sendall(letter)
                        link.recv(8)

        threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", ["connect", "pooled"])
@pytest.mark.parametrize(
    ("letter", "parameters", "says"),
    [
        (b"N", {"sslmode": "require"}, "server does not support SSL"),
        (b"S", {"sslmode": "verify-full", "sslrootcert": "{0}/ca"}, '"{0}/ca" does not exist'),
        (b"S", {"sslmode": "require", "sslcert": "{0}/bad"}, 'file "{0}/bad"'),
        (b"S", {"sslmode": "require", "sslcert": "{0}/good", "sslkey": "{0}/key"}, '"{0}/key"'),
    ],
)
def test_what_is_said_of_tls_reaches_libpq(
    how: str, letter: bytes, parameters: dict[str, str], says: str, schema: str, tmp_path: Path
) -> None:
    (tmp_path / "good").write_text(CERTIFICATE)
    (tmp_path / "bad").write_text("S3cret")
    given_ = {name: text.format(tmp_path) for name, text in parameters.items()}
    with answering(letter) as port:
        given_ |= {"port": str(port), "password": "S3cret", "sslpassword": "S3cret"}
        dsn = make_conninfo("host=127.0.0.1 user=u dbname=d", **given_)
        with pytest.raises(ConnectionFailed) as raised:
            getattr(Store, how)(dsn, schema=schema, retry_for=0)
    assert says.format(tmp_path) in str(raised.value)
    assert "S3cret" not in "".join(traceback.format_exception(raised.value))
