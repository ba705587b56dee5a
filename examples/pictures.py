"""Print the pictures of the README: what the command line shows of a small submit.

`./dev run python examples/pictures.py` starts a PostgreSQL in a temporary directory. Uuids and
times are given, so that the pictures come out the same each time.
"""

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import psycopg

from butido_store import Store, artifact, job, release, submit
from butido_store.admin.migrate import Migrator
from butido_store.artifact import Output
from butido_store.embedded import Server

_TIME = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_SUBMIT = UUID("019b8d5c-1f00-7a10-8000-000000000001")
_LOG = ["CC png.c\n", "CC main.c\n", "LD app\n", "#BUTIDO:STATE:OK\n"]


def _uuid(number: int) -> UUID:
    return UUID(int=_SUBMIT.int + (number << 96))


def _digest(path: str) -> bytes:
    return sha256(path.encode()).digest()


def _fill(store: Store) -> UUID:
    """Record three jobs, and return the last one, which still runs."""
    sources = {name: _uuid(number) for number, name in enumerate(("zlib", "libpng", "app"), 1)}
    jobs = {name: _uuid(number) for number, name in enumerate(sources, 11)}
    made = {name: _uuid(number) for number, name in enumerate(sources, 21)}
    versions = {"zlib": "1.3.1", "libpng": "1.6.50", "app": "2.0"}
    needs = {"zlib": [], "libpng": ["zlib"], "app": ["zlib", "libpng"]}
    nodes = [
        {
            "name": name,
            "version": versions[name],
            "dependencies": [[*versions].index(needed) for needed in needs[name]],
        }
        for name in versions
    ]
    store.run(
        submit.create(
            _SUBMIT,
            timestamp=_TIME,
            package="app",
            version="2.0",
            image="debian:12",
            repo_hash="9fceb02d0ae598e95dc970b74767f19372d61af8",
            tree={"root": 2, "nodes": nodes},
            buildplan={"jobs": []},
            env={"LANG": "C.UTF-8"},
        )
    )
    for number, (name, version) in enumerate(versions.items()):
        tar = f"{name}-{version}.tar.gz"
        begun = _TIME + timedelta(minutes=number)
        store.run(
            artifact.register(tar, sha256=_digest(tar), size=1, uuid=sources[name]),
            job.start(
                jobs[name],
                submit=_SUBMIT,
                package=name,
                version=version,
                image="debian:12",
                endpoint="builder-1",
                started_at=begun,
                script="make\n",
                env={"LANG": "C.UTF-8"},
                inputs=[sources[name], *(made[needed] for needed in needs[name])],
            ),
        )
        if name != "app":
            path = f"{name}-{version}.pkg"
            output = Output(path, _digest(path), 1, made[name])
            done = begun + timedelta(seconds=50 + number)
            store.run(job.finish(jobs[name], state="success", finished_at=done, outputs=[output]))
    store.run(
        release.create(
            _uuid(31), store="stable", timestamp=_TIME, actor="jane", artifacts=[made["zlib"]]
        )
    )
    return jobs["app"]


def _end(store: Store, one: UUID) -> None:
    """End the job that still runs."""
    output = Output("app-2.0.pkg", _digest("app-2.0.pkg"), 1, _uuid(23))
    done = _TIME + timedelta(minutes=3)
    store.run(job.finish(one, state="success", finished_at=done, outputs=[output]))


def draw(dsn: str, schema: str) -> str:
    """Fill a store and return what the commands print, as Markdown.

    :param dsn: a database with an empty, migrated store
    :param schema: the schema that holds it
    :returns: a console block for each command
    """
    command = [sys.executable, "-m", "butido_store", "--dsn", dsn, "--schema", schema]
    environment = {**os.environ, "NO_COLOR": "1"}

    def shown(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment, check=True
        )
        return f"$ butido-store {' '.join(arguments)}\n{done.stdout}"

    with Store.connect(dsn, schema=schema) as store:
        running = _fill(store)
        follow = ["log-of", "--follow", str(running)[:8]]
        with subprocess.Popen(
            [*command, *follow], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            seen = ""
            for seq, line in enumerate(_LOG):
                store.run(job.append_log(running, seq=seq, data=line))
                seen += process.stdout.readline() if process.stdout else ""
            _end(store, running)
        pictures = [
            shown("submit", str(_SUBMIT)[:8]),
            shown("provenance", str(_uuid(23))[:8]),
            shown("impact", "--package", "zlib"),
            f"$ butido-store {' '.join(follow)}\n{seen}",
        ]
    return "\n".join(f"```console\n{picture.rstrip()}\n```\n" for picture in pictures)


def main() -> None:
    """Run it from the command line."""
    with tempfile.TemporaryDirectory(prefix="butido-") as directory:
        # The server runs as another user where this runs as root.
        Path(directory).chmod(0o755)
        with Server(Path(directory)) as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                Migrator(connection).apply()
            sys.stdout.write(draw(server.dsn, "butido"))


if __name__ == "__main__":
    main()
