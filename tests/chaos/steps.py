"""Each write, cut off before and after each message of the protocol that it takes.

So every outcome of every statement is met once: a write that did not arrive, arrived in part, was
done and not answered, or was answered in part.
"""

import random
from collections.abc import Callable, Sequence
from itertools import count, product
from pathlib import Path
from unittest.mock import patch

from chaos.client import Doer, opened
from chaos.journal import Journal
from chaos.proxy import Direction, Proxy
from chaos.writing import Act, Thinker

# What there is before a write, and the write.
Sample = tuple[list[Act], Act]


def _samples(think: Thinker) -> dict[str, Callable[[], Sample]]:
    """Return makers of each kind of write, with what has to be there before."""

    def on_a_submit(make: Callable[[Act], tuple[list[Act], Act]]) -> Callable[[], Sample]:
        def sample() -> Sample:
            submit = think.create()
            before, act = make(submit)
            return [submit, *before], act

        return sample

    def on_a_job(make: Callable[[Act], Act], *, pieces: int = 0) -> Callable[[], Sample]:
        def sample() -> Sample:
            submit, source = think.create(), think.register()
            begun = think.start(submit, source["artifact"])
            log = [think.append(begun, seq) for seq in range(pieces)]
            return [submit, source, begun, *log], make(begun)

        return sample

    def on_an_ended_job(make: Callable[[Act, Act], Act]) -> Callable[[], Sample]:
        def sample() -> Sample:
            submit, other = think.create(), think.create()
            whole = think.record(submit)
            return [submit, other, whole], make(whole, other)

        return sample

    def first(whole: Act) -> str:
        return str(next(uuid for _, uuid in whole["outputs"].values()))

    def swept() -> Sample:
        submit = think.create()
        begun = think.start(submit, name=f"lost-{submit['submit']}")
        return [submit, begun, think.append(begun, 0)], think.sweep(begun["name"])

    def withdrawn() -> Sample:
        submit = think.create()
        whole = think.record(submit)
        given = think.release(first(whole))
        return [submit, whole, given], think.withdraw(given)

    def new(act: Act) -> Act:
        """Return the act, with names that the store does not have."""
        return {**act, "name": f"new-{act['id']}"}

    return {
        "create": lambda: ([], think.create()),
        "create of new names": lambda: ([], new(think.create())),
        "register": lambda: ([], think.register()),
        "start": on_a_submit(lambda submit: ([], think.start(submit))),
        "start of new names": on_a_submit(lambda submit: ([], new(think.start(submit)))),
        "append_log": on_a_job(lambda begun: think.append(begun, 1), pieces=1),
        "heartbeat": on_a_job(lambda begun: think.act("heartbeat", job=begun["job"])),
        "set_container": on_a_job(
            lambda begun: think.act("container", job=begun["job"], container="c0ffee")
        ),
        "finish": on_a_job(think.finish, pieces=2),
        "record": on_a_submit(lambda submit: ([], think.record(submit))),
        "record_all": on_a_submit(lambda submit: ([], think.record_all(submit))),
        "several": on_a_submit(
            lambda submit: ([], think.several(think.record(submit), think.start(submit)))
        ),
        "reuse": on_an_ended_job(
            lambda whole, other: think.act("reuse", submit=other["submit"], of=[whole["job"]])
        ),
        "release": on_an_ended_job(lambda whole, _: think.release(first(whole))),
        "withdraw": withdrawn,
        "sweep": swept,
    }


DIRECTIONS: Sequence[Direction] = ("up", "down")


def walk(
    dsn: str, schema: str, journal: Path, *, faces: Sequence[str], share: int = 1, seed: int = 0
) -> int:
    """Cut off each write before each of its messages, and after its last one.

    That after the last one up is the one before the first one down.

    :param faces: `sync` and `async`: each message by each
    :param share: cut at one of so many messages, beginning where the seed says
    :returns: how many cuts there were
    """
    think, chance = Thinker(f"walk-{seed}"), random.Random(seed)
    # The first delay is where the server may still be at work on what was cut off.
    with Proxy(dsn) as proxy, patch("butido_store._body._DELAYS", (0.001, 2.0)):
        for face in faces:
            notes = Journal(journal.with_suffix(f".{face}"))
            with (
                opened("sync", dsn, schema) as (direct, _),
                opened(face, proxy.dsn, schema) as (store, loop),
            ):
                prepare = Doer(direct, None, dsn, schema, notes)
                doer = Doer(store, loop, proxy.dsn, schema, notes)
                for sample, direction in product(_samples(think).values(), DIRECTIONS):
                    for at in count(chance.randrange(share), share):
                        before, act = sample()
                        for one in before:
                            prepare.do(one)
                        cuts = proxy.cuts
                        proxy.arm(direction, at)
                        doer.do(act)
                        if proxy.cuts == cuts:
                            # It has not as many messages.
                            break
                proxy.arm(None)
            notes.close()
        return proxy.cuts
