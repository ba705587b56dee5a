"""A whole build: find out what is needed, record that, and build it in its order."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from uuid import UUID

from butido_store import Store, job, uuid7
from butido_store.artifact import Artifact
from butido_store.building import HEARTBEAT
from wheelhouse import machine
from wheelhouse.plan import Package, resolve, submission
from wheelhouse.work import Result, Tell, Worker


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a submit: a result for each package, the requested one first."""

    submit: UUID
    results: list[Result]


def build(
    requirement: str,
    directory: Path,
    connect: Callable[[], Store],
    *,
    workers: int = 2,
    stop: Event | None = None,
    tell: Tell = lambda package, what, line: None,
) -> Summary:
    """Build the wheels of a requirement and of all that it depends on.

    :param requirement: as pip takes it, `flask` or `rich>=14`
    :param directory: gets the source distributions and the wheels
    :param connect: opens a store
    :param workers: how many packages are built at a time
    :param stop: ends it early when it is set: the jobs that run then are lost
    :param tell: is told about the progress
    :returns: what became of the submit
    :raises WheelhouseError: the requirement comes to nothing that could be built
    :raises StoreError: the store does not work, or not again soon enough
    """
    stop = stop or Event()
    directory = directory.resolve()
    for name in ("sdists", "wheels", "builds"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        # Each worker has a store, and so a connection, of its own: none waits for another.
        stores = [opened.enter_context(connect()) for _ in range(workers)]
        # What a killed builder left running here has had no heartbeat for long.
        stores[0].run(job.sweep(silent_for=60 * HEARTBEAT, endpoint=machine.ENDPOINT))
        with machine.room(directory / "builds") as place:
            packages = resolve(requirement, place, stop)
        submit = uuid7()
        stores[0].run(submission(submit, packages))
        team = [Worker(store, submit, directory, stop, tell) for store in stores]
        return Summary(submit, _build_all(packages, team, stop, tell))


def _build_all(
    packages: Mapping[str, Package], team: Sequence[Worker], stop: Event, tell: Tell
) -> list[Result]:
    """Build each package as soon as all that it needs is there."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in team:
        idle.put(worker)

    def make(package: Package, below: Mapping[str, Artifact]) -> Result:
        worker = idle.get()
        try:
            return worker.make(package, below)
        finally:
            idle.put(worker)

    results = {name: Result(package, "not built") for name, package in packages.items()}
    # By package: its wheel and all those that it depends on, by path.
    wheels: dict[str, dict[str, Artifact]] = {}
    order = TopologicalSorter({name: package.needs for name, package in packages.items()})
    order.prepare()
    running: set[Future[Result]] = set()
    with ThreadPoolExecutor(len(team)) as pool:
        try:
            while True:
                for name in order.get_ready():
                    wheels[name] = {}
                    for need in packages[name].needs:
                        wheels[name] |= wheels[need]
                    running.add(pool.submit(make, packages[name], dict(wheels[name])))
                if not running:
                    return list(results.values())
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for result in (future.result() for future in ended):
                    name = result.package.name
                    results[name] = result
                    tell(result.package, result.outcome, "")
                    # What needs a package that failed never becomes ready.
                    if result.wheel:
                        wheels[name][result.wheel.path] = result.wheel
                        order.done(name)
        except BaseException:
            stop.set()
            raise
