"""What a worker does for a package: ask the store, else build, and record it all the while."""

import hashlib
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Literal
from uuid import UUID

from packaging.utils import InvalidSdistFilename, parse_sdist_filename
from packaging.version import Version

from butido_store import Store, artifact, build, job, report, submit
from butido_store.artifact import Artifact, Output, Reuse
from butido_store.building import HEARTBEAT
from wheelhouse import machine
from wheelhouse.machine import Ended, Interrupted, WheelhouseError
from wheelhouse.plan import JOB_ENV, Package

# A script is part of what makes two builds the same, so it reads alike in every run: it works in
# the current directory and finds the interpreter in a variable.
FETCH = """\
set -eu
"$PYTHON" -m pip download --no-deps --no-binary {name} --dest output {name}=={version}
"""
BUILD = """\
set -eu
"$PYTHON" -m pip wheel --verbose --no-deps --wheel-dir output inputs/{sdist}
# The wheel must install together with the wheels it depends on, from nowhere but the inputs;
# what else is installed does not matter.
export PIP_CONFIG_FILE=/dev/null
"$PYTHON" -m pip --isolated install --no-index --find-links inputs --no-warn-conflicts \\
    --target check output/*.whl
"""

# Called with a package, what is done for it, and the last line of output; from several threads.
Tell = Callable[[Package, str, str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a package; `job` made its wheel, in this run or before, or failed to."""

    package: Package
    outcome: Literal["built", "reused", "failed", "not built", "interrupted"]
    job: UUID | None = None
    wheel: Artifact | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Worker:
    """Builds one package at a time; its store, and so its connection, is its own."""

    store: Store
    submit: UUID
    directory: Path
    stop: Event
    tell: Tell

    def make(self, package: Package, wheels: Mapping[str, Artifact]) -> Result:
        """Get the wheel of a package from an earlier job that did the same, else by a new one.

        :param package: what to build
        :param wheels: those of all that it depends on, near and far, by path
        :returns: what became of it
        """
        began = time.monotonic()
        try:
            result = self._make(package, wheels)
        except Interrupted:
            result = Result(package, "interrupted")
        return replace(result, seconds=time.monotonic() - began)

    def _make(self, package: Package, wheels: Mapping[str, Artifact]) -> Result:
        if self.stop.is_set():
            raise Interrupted
        sdist = self._known_sdist(package) or self._fetch(package)
        if sdist is None:
            return Result(package, "failed", package.job)
        path, size = f"sdists/{sdist.name}", sdist.stat().st_size
        source = self.store.run(artifact.register(path, sha256=_sha256(sdist), size=size))
        inputs = [source, *wheels.values()]
        script = BUILD.format(sdist=shlex.quote(sdist.name))
        earlier = self.store.run(
            artifact.reusable(
                package=package.name,
                version=package.version,
                image=machine.IMAGE,
                image_sha256=machine.IMAGE_SHA256,
                script=script,
                env=JOB_ENV,
                inputs=inputs,
            )
        )
        useless: list[UUID] = []
        while True:
            if earlier and (known := self._reused(package, earlier)):
                return known
            if earlier:
                useless.append(earlier.job_uuid)
            made = self._build(package, script, inputs, useless)
            if isinstance(made, Result):
                return made
            earlier = made

    def _reused(self, package: Package, earlier: Reuse) -> Result | None:
        """Take the wheel of an earlier job, if its file is there as it was."""
        # The store knows what the wheel was; the file may be gone, or another one, by now.
        [wheel] = earlier.outputs
        file = self.directory / wheel.path
        if not file.exists() or _sha256(file) != wheel.sha256:
            return None
        chosen = submit.reuse(self.submit, [earlier], timestamp=datetime.now(UTC))
        self.store.run(chosen)
        return Result(package, "reused", earlier.job_uuid, wheel)

    def _known_sdist(self, package: Package) -> Path | None:
        """Return the source distribution if an earlier run left it and nobody changed it."""
        wanted = (package.name, Version(package.version))
        for file in (self.directory / "sdists").iterdir():
            with suppress(InvalidSdistFilename):
                if parse_sdist_filename(file.name) == wanted:
                    known = report.artifacts(path=f"sdists/{file.name}", sha256=_sha256(file))
                    if self.store.run(known):
                        return file
        return None

    def _fetch(self, package: Package) -> Path | None:
        """Download the source distribution, or else record a job that failed to."""
        self.tell(package, "fetching", "")
        started_at = datetime.now(UTC)
        script = FETCH.format(name=package.name, version=package.version)
        log = bytearray()
        with machine.room(self.directory / "builds") as place:
            ended = self._run(script, place, log.extend)
            for file in (place / "output").iterdir():
                return file.replace(self.directory / "sdists" / file.name)
        log += f"No source distribution of {package} could be fetched.\n".encode()
        failed = job.EndedJob(
            uuid=package.job,
            submit=self.submit,
            package=package.name,
            version=package.version,
            image=machine.IMAGE,
            image_sha256=machine.IMAGE_SHA256,
            endpoint=machine.ENDPOINT,
            state="error",
            started_at=started_at,
            finished_at=datetime.now(UTC),
            script=script,
            log=bytes(log),
            env=JOB_ENV,
            reason="no source distribution",
            exit_code=ended.exit_code,
            measurements=ended.measurements,
        )
        self.store.run(job.record(failed))
        return None

    def _build(
        self, package: Package, script: str, inputs: Sequence[Artifact], useless: Sequence[UUID]
    ) -> Result | Reuse:
        """Run the build, recorded from before it starts until its wheel is in place.

        Where another process has just that build under way, wait and return what it did.
        """
        self.tell(package, "building", "")
        with (
            build(
                self.store,
                package.job,
                submit=self.submit,
                package=package.name,
                version=package.version,
                image=machine.IMAGE,
                image_sha256=machine.IMAGE_SHA256,
                endpoint=machine.ENDPOINT,
                script=script,
                env=JOB_ENV,
                inputs=inputs,
                container_hash=machine.container_hash(),
                once=6 * HEARTBEAT,
                besides=useless,
            ) as running,
            machine.room(self.directory / "builds") as place,
        ):
            if running.reuse:
                return running.reuse

            def follow(data: bytes) -> None:
                if lines := data.decode(errors="replace").splitlines():
                    self.tell(package, "building", lines[-1])
                running.log(data)

            try:
                for file in inputs:
                    self._copy(file, place / "inputs")
                ended = self._run(script, place, follow)
            except (WheelhouseError, OSError) as error:
                # No fault of the build's: this worker gives it up.
                running.finish("lost", reason=str(error) or "interrupted")
                raise
            code, measured = ended.exit_code, ended.measurements
            if code:
                running.finish("error", reason=ended.reason, exit_code=code, measurements=measured)
                return Result(package, "failed", package.job)
            made_here = [self._keep(place)]
            [made] = running.finish("success", made_here, exit_code=code, measurements=measured)
            return Result(package, "built", package.job, made)

    def _run(self, script: str, place: Path, follow: Callable[[bytes], object]) -> Ended:
        env = machine.environment(place, JOB_ENV)
        return machine.run(["sh", "-c", script], place, env, self.stop, follow)

    def _copy(self, file: Artifact, inputs: Path) -> None:
        """Copy an input to where the build sees it, if it still is what was recorded."""
        copy = shutil.copy(self.directory / file.path, inputs)
        if _sha256(Path(copy)) != file.sha256:
            raise WheelhouseError(f"{file.path} was changed meanwhile; run again")

    def _keep(self, place: Path) -> Output:
        """Move the wheel of a build to where it stays."""
        [wheel] = (place / "output").iterdir()
        kept = wheel.replace(self.directory / "wheels" / wheel.name)
        return Output.from_file(kept, f"wheels/{kept.name}")


def _sha256(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
