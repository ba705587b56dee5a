"""The get-or-create pattern, as butido has it: for each value a transaction of its own.

https://github.com/science-computing/butido/tree/master/src/db/models: `create_or_fetch` inserts
with `on_conflict_do_nothing()` and then selects the row, both in a
transaction; so does `Job::create`.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import aiosql
import psycopg
from psycopg.types.json import Jsonb
from workload import Submit

from butido_store.job import EndedJob
from peers import HERE, OnButidosTables, on_schema

_QUERIES = aiosql.from_path(HERE / "get_or_create.sql", "psycopg")


def _text(name: str) -> str:
    return str(getattr(_QUERIES, name).sql)


_TEXT = {name: _text(name) for name in _QUERIES.available_queries if not name.endswith("_cursor")}


class GetOrCreate(OnButidosTables):
    """60 round trips for a job with 5 variables, an input and an output, statements prepared."""

    def __init__(self, dsn: str) -> None:
        """Connect."""
        self._connection = psycopg.connect(
            on_schema(dsn, self.schema), autocommit=True, prepare_threshold=0
        )
        self.round_trips = 0

    def _send(
        self, text: str, values: Mapping[str, object] | None = None
    ) -> psycopg.Cursor[tuple[int]]:
        self.round_trips += 1
        return self._connection.execute(text.encode(), values)

    def _link(self, name: str, **values: object) -> None:
        self._send("BEGIN")
        self._send(_TEXT[f"add_{name}"], values)
        self._send("COMMIT")

    def _get_or_create(self, name: str, key: Mapping[str, object], **more: object) -> int:
        self._send("BEGIN")
        self._send(_TEXT[f"add_{name}"], {**key, **more})
        row = self._send(_TEXT[name], key).fetchone()
        self._send("COMMIT")
        assert row is not None
        return row[0]

    def _envvars(self, env: Mapping[str, str]) -> list[int]:
        return [
            self._get_or_create("envvar", {"name": name, "value": value})
            for name, value in env.items()
        ]

    def create(self, one: Submit) -> None:
        """Record a submit."""
        envs = self._envvars(one.env)
        submit = self._get_or_create(
            "submit",
            {"uuid": one.uuid},
            package=self._get_or_create("package", {"name": one.package, "version": one.version}),
            image=self._get_or_create("image", {"name": one.image}),
            hash=self._get_or_create("githash", {"hash": one.repo_hash}),
            at=one.timestamp,
            tree=Jsonb(one.tree),
            buildplan=Jsonb(one.buildplan),
        )
        for env in envs:
            self._link("submit_env", submit=submit, env=env)

    def known(self, jobs: Sequence[EndedJob]) -> Sequence[EndedJob]:
        """Take nothing for granted."""
        return jobs

    def record(self, known: Sequence[EndedJob]) -> None:
        """Record jobs, one after the other."""
        for job in known:
            self._record(job)

    def _record(self, job: EndedJob) -> None:
        envs = self._envvars(job.env)
        (submit,) = self._send(_TEXT["submit"], {"uuid": job.submit}).fetchone() or (None,)
        made = self._get_or_create(
            "job",
            {"uuid": job.uuid},
            submit=submit,
            endpoint=self._get_or_create("endpoint", {"name": job.endpoint}),
            package=self._get_or_create("package", {"name": job.package, "version": job.version}),
            image=self._get_or_create("image", {"name": job.image}),
            container_hash=job.container_hash,
            script=job.script,
            log=job.log,
            state=job.state,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )
        for env in envs:
            self._link("job_env", job=made, env=env)
        for uuid in job.inputs:
            (artifact,) = self._send(_TEXT["artifact"], {"uuid": uuid}).fetchone() or (None,)
            self._link("input", job=made, artifact=artifact)
        for output in job.outputs:
            self._get_or_create(
                "artifact",
                {"uuid": output.uuid},
                job=made,
                path=output.path,
                sha256=output.sha256,
                size=output.size,
            )

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its connection."""
        self._connection.close()
