"""How the tree is built: a job for each target, many at a time, and none for what is known."""

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from butido_store import AsyncStore, build, release, submit, uuid7
from butido_store.artifact import Artifact, Output
from butido_store.building import AsyncRunningJob
from treehouse.plan import ENV, HOST, IMAGE, VERSION, Target, request

# A target's object, or None where it could not be made.
Made = Artifact | None


async def execute(script: str, room: str, running: AsyncRunningJob) -> int:
    """Run a script, its output the job's log; when this is cancelled, kill all that it started."""
    start = asyncio.create_subprocess_shell(
        script, cwd=room, env=ENV, process_group=0, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    starting = asyncio.ensure_future(start)
    try:
        # Cut off, it might leave behind what the script has started already.
        process = await asyncio.shield(starting)
        while process.stdout and (data := await process.stdout.read(65536)):
            await running.log(data)
        return await process.wait()
    finally:
        process = await starting
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            rest, _ = await process.communicate()
            await running.log(rest)


@dataclass(frozen=True)
class Builder:
    """Makes the targets of one submit, and keeps each file by its content's SHA-256."""

    store: AsyncStore
    submit: UUID
    kept: Path
    slots: asyncio.Semaphore

    async def make(self, target: Target, needs: list[asyncio.Task[Made]]) -> Made:
        """Return a target's object, made before or now, once there are those that it needs."""
        parts = [part for task in needs if (part := await task)]
        if len(parts) < len(needs):
            return None
        async with self.slots:
            source = await self.store.run(target.register())
            todo = build(
                *(self.store, target.uuid), submit=self.submit, endpoint=HOST, image=IMAGE,
                package=target.name, version=VERSION, script=target.script, env=ENV,
                inputs=[source, *parts],
            )  # fmt: skip
            known = await self.store.run(todo.reusable())
            if known and self._kept(known.outputs[0]).exists():
                chosen = submit.reuse(self.submit, [known], timestamp=datetime.now(UTC))
                await self.store.run(chosen)
                print(f"known  {target.name}")
                return known.outputs[0]
            with TemporaryDirectory(dir=self.kept) as room:
                async with todo as running:
                    Path(room, source.path).write_bytes(target.source)
                    for part in parts:
                        shutil.copyfile(self._kept(part), Path(room, part.path))
                    if code := await execute(target.script, room, running):
                        await running.finish("error", reason="the script failed", exit_code=code)
                        print(f"failed {target.name}: butido-store log-of {target.uuid}")
                        return None
                    file = Path(room, f"{target.name}.o")
                    output = await asyncio.to_thread(Output.from_file, file, file.name)
                    file.rename(self._kept(output))
                    (made,) = await running.finish("success", [output], exit_code=0)
            print(f"built  {target.name}")
            return made

    def _kept(self, file: Artifact | Output) -> Path:
        """Return where a file is kept, which is nowhere if nobody knows its content."""
        return self.kept / (file.sha256.hex() if file.sha256 else "unknown")


async def work(store: AsyncStore, targets: list[Target], kept: Path, slots: int) -> Made:
    """Build the targets, and release the last one; return it, or None where it cannot be made."""
    builder = Builder(store, uuid7(), kept, asyncio.Semaphore(slots))
    await store.run(request(builder.submit, targets))
    tasks: dict[str, asyncio.Task[Made]] = {}
    async with asyncio.TaskGroup() as group:
        for target in targets:
            needs = [tasks[need.name] for need in target.needs]
            tasks[target.name] = group.create_task(builder.make(target, needs))
    if made := tasks[target.name].result():
        act = release.create(
            uuid7(), store="garden", timestamp=datetime.now(UTC), actor="owner", artifacts=[made]
        )
        await store.run(act)
    return made
