"""What is recorded in the measurements: submits with their ended jobs, the same for every peer."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from butido_store import Statement, submit, uuid7
from butido_store.artifact import Output
from butido_store.job import EndedJob

# Ten submits of so many jobs have all shared values that there are.
PACKAGES = 40
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
_SCRIPT = "#!/bin/sh\nset -eu\n./configure --prefix=/usr\nmake\nmake DESTDIR=/outputs install\n"
_LOG = "".join(f"  CC       src/file-{n}.o\n" for n in range(60)) + "#BUTIDO:STATE:OK\n"


@dataclass(frozen=True, slots=True)
class Submit:
    """A submit as a builder knows it, and the jobs that came of it."""

    uuid: UUID
    timestamp: datetime
    package: str
    version: str
    image: str
    repo_hash: str
    tree: dict[str, object]
    buildplan: dict[str, object]
    env: dict[str, str]
    jobs: tuple[EndedJob, ...]

    def created(self) -> Statement[None]:
        """Return what records it, without its jobs."""
        return submit.create(
            self.uuid,
            timestamp=self.timestamp,
            package=self.package,
            version=self.version,
            image=self.image,
            repo_hash=self.repo_hash,
            tree=self.tree,
            buildplan=self.buildplan,
            env=self.env,
        )


def submits(seed: int, *, jobs: int = 20, variables: int = 5) -> Iterator[Submit]:
    """Yield submits without end, whose shared values come from a stock that is soon in any store.

    Each job has an environment, which its package decides, an output, and as input the output of
    the job before it.

    :param seed: of what is chosen; the same seed chooses the same, only uuids are others
    :param jobs: how many each has, at most 40
    :param variables: how many an environment has
    """
    choose = random.Random(seed)
    number = 0
    while True:
        number += 1
        at = _SINCE + timedelta(minutes=30 * number, seconds=seed % 1000)
        uuid, image = uuid7(), f"registry.example.com/os-{number % 8}:1"
        packages = sorted(choose.sample(range(PACKAGES), jobs))
        made: list[EndedJob] = []
        for place, package in enumerate(packages):
            started = at + timedelta(seconds=60 * place)
            name, version = f"package-{package}", f"1.{package % 7}"
            path = f"{name}-{version}.tar.gz"
            content = hashlib.sha256(f"{seed} {number} {place}".encode()).digest()
            made.append(
                EndedJob(
                    uuid=uuid7(),
                    submit=uuid,
                    package=name,
                    version=version,
                    image=image,
                    endpoint=f"builder-{package % 10}",
                    state="success",
                    started_at=started,
                    finished_at=started + timedelta(seconds=30 + package % 20),
                    script=_SCRIPT,
                    log=_LOG,
                    container_hash=content.hex(),
                    env={
                        f"VARIABLE_{n}": f"value {(package + n) % (10 + n)} of this variable"
                        for n in range(variables)
                    },
                    inputs=(made[-1].outputs[0].uuid,) if made else (),
                    outputs=(Output(path, content, 100_000 + package),),
                )
            )
        last = made[-1]
        yield Submit(
            uuid=uuid,
            timestamp=at,
            package=last.package,
            version=last.version,
            image=image,
            repo_hash=hashlib.sha1(f"{number % 10}".encode()).hexdigest(),
            tree={
                "root": 0,
                "nodes": [
                    {
                        "name": job.package,
                        "version": job.version,
                        "dependencies": [place + 1] if place + 1 < jobs else [],
                    }
                    for place, job in enumerate(reversed(made))
                ],
            },
            buildplan={
                "jobs": [
                    {
                        "uuid": str(job.uuid),
                        "package": job.package,
                        "version": job.version,
                        "needs": [str(made[place - 1].uuid)] if place else [],
                    }
                    for place, job in enumerate(made)
                ]
            },
            env={"VARIABLE_0": "value 0 of this variable"},
            jobs=tuple(made),
        )
