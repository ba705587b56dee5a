"""SQLAlchemy 2's Core: one transaction for each call, and one statement for all rows of a table.

https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#insert-on-conflict-upsert and
https://docs.sqlalchemy.org/en/20/tutorial/data_insert.html#insert-returning
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from sqlalchemy import Connection, create_engine, insert, select
from sqlalchemy import tuple_ as row_of
from sqlalchemy.dialects.postgresql import insert as insert_or_leave
from workload import Submit

from butido_store.job import EndedJob
from peers import OnButidosTables, on_schema
from peers.sqlalchemy_orm import Base, url

_TABLES = Base.metadata.tables


def _ids(connection: Connection, table: str, fields: str, keys: Iterable[Any]) -> dict[Any, int]:
    """Return the ids of these keys: select them, and insert those that are not there."""
    names = fields.split()
    of = _TABLES[table]
    columns = [of.c[name] for name in names]
    wanted = sorted({key if isinstance(key, tuple) else (key,) for key in keys})
    query = select(of.c.id, *columns).where(row_of(*columns).in_(wanted))
    found = {tuple(row[1:]): row[0] for row in connection.execute(query)}
    if missing := [key for key in wanted if key not in found]:
        rows = [dict(zip(names, key, strict=True)) for key in missing]
        connection.execute(insert_or_leave(of).values(rows).on_conflict_do_nothing())
        found = {tuple(row[1:]): row[0] for row in connection.execute(query)}
    return found


class Core(OnButidosTables):
    """A connection of the engine's pool and one transaction for each call."""

    def __init__(self, dsn: str) -> None:
        """Make an engine."""
        self._engine = create_engine(url(on_schema(dsn, self.schema)))

    def create(self, one: Submit) -> None:
        """Record a submit."""
        with self._engine.begin() as connection:
            package = (one.package, one.version)
            packages = _ids(connection, "packages", "name version", [package])
            envs = _ids(connection, "envvars", "name value", one.env.items())
            statement = insert(_TABLES["submits"]).returning(_TABLES["submits"].c.id)
            submit = connection.execute(
                statement,
                {
                    "uuid": one.uuid,
                    "submit_time": one.timestamp,
                    "requested_image_id": _ids(connection, "images", "name", [one.image])[
                        one.image,
                    ],
                    "requested_package_id": packages[package],
                    "repo_hash_id": _ids(connection, "githashes", "hash", [one.repo_hash])[
                        one.repo_hash,
                    ],
                    "tree": one.tree,
                    "buildplan": one.buildplan,
                },
            ).scalar_one()
            if envs:
                connection.execute(
                    insert(_TABLES["submit_envs"]),
                    [{"submit_id": submit, "env_id": env} for env in envs.values()],
                )

    def known(self, jobs: Sequence[EndedJob]) -> Sequence[EndedJob]:
        """Take nothing for granted."""
        return jobs

    def record(self, known: Sequence[EndedJob]) -> None:
        """Record jobs."""
        with self._engine.begin() as connection:
            variables = {pair for job in known for pair in job.env.items()}
            envs = _ids(connection, "envvars", "name value", variables)
            packages = _ids(
                connection,
                "packages",
                "name version",
                {(job.package, job.version) for job in known},
            )
            images = _ids(connection, "images", "name", {job.image for job in known})
            endpoints = _ids(connection, "endpoints", "name", {job.endpoint for job in known})
            submits = _TABLES["submits"]
            submit = connection.execute(
                select(submits.c.id).where(submits.c.uuid == known[0].submit)
            ).scalar_one()
            jobs, artifacts = _TABLES["jobs"], _TABLES["artifacts"]
            made = connection.execute(
                insert(jobs).returning(jobs.c.id, sort_by_parameter_order=True),
                [
                    {
                        "uuid": job.uuid,
                        "submit_id": submit,
                        "endpoint_id": endpoints[job.endpoint,],
                        "package_id": packages[job.package, job.version],
                        "image_id": images[job.image,],
                        "container_hash": job.container_hash,
                        "script_text": job.script,
                        "log_text": job.log,
                        "state": job.state,
                        "started_at": job.started_at,
                        "finished_at": job.finished_at,
                    }
                    for job in known
                ],
            ).scalars()
            of = list(zip(made, known, strict=True))
            links = [
                {"job_id": id_, "env_id": envs[pair]} for id_, job in of for pair in job.env.items()
            ]
            if links:
                connection.execute(insert(_TABLES["job_envs"]), links)
            outputs = [
                {
                    "uuid": output.uuid,
                    "job_id": id_,
                    "path": output.path,
                    "sha256": output.sha256,
                    "size": output.size,
                }
                for id_, job in of
                for output in job.outputs
            ]
            if outputs:
                connection.execute(insert(artifacts), outputs)
            if read := {uuid for job in known for uuid in job.inputs}:
                query = select(artifacts.c.uuid, artifacts.c.id).where(artifacts.c.uuid.in_(read))
                files = {row[0]: row[1] for row in connection.execute(query)}
                connection.execute(
                    insert(_TABLES["job_input_artifacts"]),
                    [
                        {"job_id": id_, "artifact_id": files[uuid]}
                        for id_, job in of
                        for uuid in job.inputs
                    ],
                )

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine's connections."""
        self._engine.dispose()
