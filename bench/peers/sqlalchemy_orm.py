"""SQLAlchemy 2's ORM: declarative models, a session for each call, what is missing is added.

https://docs.sqlalchemy.org/en/20/orm/quickstart.html and
https://docs.sqlalchemy.org/en/20/orm/session_basics.html#framing-out-a-begin-commit-rollback-block
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Self, cast

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, BigInteger, Column, DateTime, ForeignKey, Table, create_engine, select
from sqlalchemy import tuple_ as row_of
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from workload import Submit as GivenSubmit

from butido_store.job import EndedJob
from peers import OnButidosTables, on_schema


class Base(DeclarativeBase):
    """All models."""

    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB}  # noqa: RUF012


submit_envs = Table(
    "submit_envs",
    Base.metadata,
    Column("submit_id", ForeignKey("submits.id")),
    Column("env_id", ForeignKey("envvars.id")),
)
job_envs = Table(
    "job_envs",
    Base.metadata,
    Column("job_id", ForeignKey("jobs.id")),
    Column("env_id", ForeignKey("envvars.id")),
)
job_input_artifacts = Table(
    "job_input_artifacts",
    Base.metadata,
    Column("job_id", ForeignKey("jobs.id")),
    Column("artifact_id", ForeignKey("artifacts.id")),
)


class EnvVar(Base):
    """An environment variable."""

    __tablename__ = "envvars"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    value: Mapped[str]


class GitHash(Base):
    """A commit."""

    __tablename__ = "githashes"
    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str]


class Package(Base):
    """A package."""

    __tablename__ = "packages"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str]


class Image(Base):
    """An image."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Endpoint(Base):
    """A build host."""

    __tablename__ = "endpoints"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Submit(Base):
    """A request."""

    __tablename__ = "submits"
    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[uuid.UUID]
    submit_time: Mapped[datetime]
    requested_image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    requested_package_id: Mapped[int] = mapped_column(ForeignKey("packages.id"))
    repo_hash_id: Mapped[int] = mapped_column(ForeignKey("githashes.id"))
    tree: Mapped[dict[str, Any]]
    buildplan: Mapped[dict[str, Any]]
    image: Mapped[Image] = relationship()
    package: Mapped[Package] = relationship()
    repo_hash: Mapped[GitHash] = relationship()
    envs: Mapped[list[EnvVar]] = relationship(secondary=submit_envs)


class Artifact(Base):
    """A file."""

    __tablename__ = "artifacts"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    uuid: Mapped[uuid.UUID]
    sha256: Mapped[bytes]
    size: Mapped[int] = mapped_column(BigInteger)


class Job(Base):
    """A build."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    submit_id: Mapped[int] = mapped_column(ForeignKey("submits.id"))
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"))
    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    container_hash: Mapped[str]
    script_text: Mapped[str]
    log_text: Mapped[str]
    uuid: Mapped[uuid.UUID]
    state: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    submit: Mapped[Submit] = relationship()
    endpoint: Mapped[Endpoint] = relationship()
    package: Mapped[Package] = relationship()
    image: Mapped[Image] = relationship()
    envs: Mapped[list[EnvVar]] = relationship(secondary=job_envs)
    inputs: Mapped[list[Artifact]] = relationship(secondary=job_input_artifacts)
    outputs: Mapped[list[Artifact]] = relationship()


def url(dsn: str) -> URL:
    """Return a libpq connection string as SQLAlchemy's URL."""
    given = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    return URL.create("postgresql+psycopg", query=given)


def _get_or_add(
    session: Session, model: type[Any], fields: str, keys: Iterable[Any]
) -> dict[Any, Any]:
    """Return the objects of these keys, one SELECT for all, new ones for those not found."""
    names = fields.split()
    columns = [getattr(model, name) for name in names]
    wanted = {key if isinstance(key, tuple) else (key,) for key in keys}
    found = {
        tuple(getattr(one, name) for name in names): one
        for one in session.scalars(select(model).where(row_of(*columns).in_(wanted)))
    }
    for key in wanted - found.keys():
        found[key] = model(**dict(zip(names, key, strict=True)))
        session.add(found[key])
    return found


class Orm(OnButidosTables):
    """A session for each call, and one transaction in it."""

    def __init__(self, dsn: str) -> None:
        """Make an engine."""
        self._engine = create_engine(url(on_schema(dsn, self.schema)))

    def create(self, one: GivenSubmit) -> None:
        """Record a submit."""
        with Session(self._engine) as session, session.begin():
            package = (one.package, one.version)
            envs = _get_or_add(session, EnvVar, "name value", one.env.items())
            session.add(
                Submit(
                    uuid=one.uuid,
                    submit_time=one.timestamp,
                    package=_get_or_add(session, Package, "name version", [package])[package],
                    image=_get_or_add(session, Image, "name", [one.image])[one.image,],
                    repo_hash=_get_or_add(session, GitHash, "hash", [one.repo_hash])[
                        one.repo_hash,
                    ],
                    tree=one.tree,
                    buildplan=one.buildplan,
                    envs=list(envs.values()),
                )
            )

    def known(self, jobs: Sequence[EndedJob]) -> Sequence[EndedJob]:
        """Take nothing for granted."""
        return jobs

    def record(self, known: Sequence[EndedJob]) -> None:
        """Record jobs."""
        with Session(self._engine) as session, session.begin():
            envs = _get_or_add(
                session, EnvVar, "name value", {pair for job in known for pair in job.env.items()}
            )
            packages = _get_or_add(
                session, Package, "name version", {(job.package, job.version) for job in known}
            )
            images = _get_or_add(session, Image, "name", {job.image for job in known})
            endpoints = _get_or_add(session, Endpoint, "name", {job.endpoint for job in known})
            submit = session.scalars(select(Submit).where(Submit.uuid == known[0].submit)).one()
            files = {
                output.uuid: Artifact(
                    uuid=output.uuid, path=output.path, sha256=output.sha256, size=output.size
                )
                for job in known
                for output in job.outputs
            }
            earlier = {uuid for job in known for uuid in job.inputs} - files.keys()
            if earlier:
                for file in session.scalars(select(Artifact).where(Artifact.uuid.in_(earlier))):
                    files[file.uuid] = file
            session.add_all(
                Job(
                    uuid=job.uuid,
                    submit=submit,
                    endpoint=endpoints[job.endpoint,],
                    package=packages[job.package, job.version],
                    image=images[job.image,],
                    container_hash=job.container_hash,
                    script_text=job.script,
                    log_text=job.log,
                    state=job.state,
                    started_at=job.started_at,
                    finished_at=job.finished_at,
                    envs=[envs[pair] for pair in job.env.items()],
                    inputs=[files[cast(uuid.UUID, file)] for file in job.inputs],
                    outputs=[files[output.uuid] for output in job.outputs],
                )
                for job in known
            )

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine's connections."""
        self._engine.dispose()
