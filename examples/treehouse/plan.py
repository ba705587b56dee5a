"""What is to be built: a tree of C objects, and the submit that asks for its trunk."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from butido_store import Statement, artifact, submit, uuid7
from butido_store.artifact import Artifact

VERSION = "1.0"
HOST = platform.node()
IMAGE = platform.platform()
ENV = {"LC_ALL": "C", "PATH": os.defpath}
LEVELS = ("trunk", "bough", "branch", "twig", "leaf")


@dataclass(frozen=True, kw_only=True)
class Target:
    """An object that is to be made: by which job, of what else, of which source, and how."""

    uuid: UUID
    name: str
    needs: list["Target"]
    source: bytes
    script: str

    def register(self) -> Statement[Artifact]:
        """Return what records its source, a file from outside."""
        digest = sha256(self.source).digest()
        return artifact.register(f"{self.name}.c", sha256=digest, size=len(self.source))


def grow(compiler: str) -> list[Target]:
    """Return the 31 targets, each after those that it needs: target n after 2n and 2n + 1.

    :param compiler: a command that takes `-o`, the file to write, and the files to read
    """
    tree: dict[int, Target] = {}
    for n in range(31, 0, -1):
        name = f"{LEVELS[n.bit_length() - 1]}{n}"
        needs = [tree[above] for above in (2 * n, 2 * n + 1) if above in tree]
        declared = "".join(f"int {need.name}(void); " for need in needs)
        value = " + ".join(f"{need.name}()" for need in needs) or "1"
        files = " ".join([f"{name}.c", *(f"{need.name}.o" for need in needs)])
        tree[n] = Target(
            uuid=uuid7(),
            name=name,
            needs=needs,
            source=f"{declared}int {name}(void) {{ return {value}; }}\n".encode(),
            script=f"set -x\n{compiler} -o {name}.o {files}\n",
        )
    return list(tree.values())


def request(uuid: UUID, targets: list[Target]) -> Statement[None]:
    """Return what records a submit of the last target, and of all that it needs."""
    place = {target.name: at for at, target in enumerate(targets)}
    nodes = [
        {"name": one.name, "version": VERSION, "dependencies": [place[n.name] for n in one.needs]}
        for one in targets
    ]
    jobs = [
        {"uuid": str(one.uuid), "package": one.name, "version": VERSION}
        | {"needs": [str(need.uuid) for need in one.needs]}
        for one in targets
    ]
    return submit.create(
        uuid,
        timestamp=datetime.now(UTC),
        package=targets[-1].name,
        version=VERSION,
        image=IMAGE,
        repo_hash=sha256(b"".join(target.source for target in targets)).hexdigest(),
        tree={"root": len(targets) - 1, "nodes": nodes},
        buildplan={"jobs": jobs},
        actor=os.environ.get("USER") or f"uid {os.getuid()}",
        labels={"builder": "treehouse"},
    )
