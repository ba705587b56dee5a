"""Logs: buffered into few statements, and read for butido's line protocol."""

import pytest
from conftest import AnyStore
from hypothesis import example, given
from hypothesis import strategies as st
from samples import create, start

from butido_store import Statement, job, uuid7
from butido_store.log import LogBuffer, Outcome, decode_log, encode_log, read_outcome


def chunk(statement: Statement[None] | None) -> str:
    """Return the text that a statement appends."""
    assert statement is not None
    return str(statement.steps[-1].parameters["chunk"])


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_piece_is_due_at_64_kilobytes() -> None:
    buffer = LogBuffer(uuid7(), clock=Clock())
    assert buffer.add("x" * 65_535) is None
    assert chunk(buffer.add("y")) == "x" * 65_535 + "y"
    assert buffer.flush() is None


def test_a_piece_is_due_after_a_second_even_if_nothing_more_comes() -> None:
    clock = Clock()
    buffer = LogBuffer(uuid7(), clock=clock)
    clock.now = 5.0
    assert buffer.add("a") is None
    clock.now = 5.9
    assert buffer.add() is None
    clock.now = 6.0
    assert chunk(buffer.add()) == "a"
    assert buffer.add() is None


def test_pieces_are_counted_from_where_the_log_was_left() -> None:
    clock = Clock()
    buffer = LogBuffer(uuid7(), seq=7, clock=clock)
    seqs = []
    for _ in range(3):
        buffer.add("a")
        statement = buffer.flush()
        assert statement is not None
        seqs.append(statement.steps[-1].parameters["seq"])
    assert seqs == [7, 8, 9]


def test_a_character_that_comes_in_two_parts_stays_one() -> None:
    clock = Clock()
    buffer = LogBuffer(uuid7(), clock=clock)
    head, tail = "é".encode()[:1], "é".encode()[1:]
    buffer.add(b"caf" + head)
    clock.now = 2.0
    assert chunk(buffer.add()) == "caf"
    buffer.add(tail)
    assert chunk(buffer.flush()) == "é"


def test_a_character_that_stays_half_is_kept_as_a_byte() -> None:
    buffer = LogBuffer(uuid7())
    buffer.add(b"caf\xc3")
    assert chunk(buffer.flush()) == "caf\\xc3"


@given(
    pieces=st.lists(
        st.binary(max_size=8) | st.sampled_from([b"\\", b"\\x", b"\\x4", b"\\x5c", "é😀".encode()])
    ),
    ticks=st.lists(st.floats(0, 2)),
)
def test_nothing_is_lost_or_altered(pieces: list[bytes], ticks: list[float]) -> None:
    clock = Clock()
    buffer = LogBuffer(uuid7(), clock=clock)
    texts = []
    for piece, tick in zip(pieces, ticks + [0.0] * len(pieces), strict=False):
        clock.now += tick
        if statement := buffer.add(piece):
            texts.append(chunk(statement))
    if statement := buffer.flush():
        texts.append(chunk(statement))
    assert decode_log("".join(texts)) == b"".join(pieces)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\")))
def test_plain_text_is_itself(text: str) -> None:
    assert encode_log(text) == text
    assert encode_log(text.encode()) == text


@given(text=st.text(st.characters(exclude_categories=[])))
@example(text="\ud800")
def test_any_str_is_taken(text: str) -> None:
    encoded = encode_log(text)
    assert "\0" not in encoded
    assert encoded.encode().decode() == encoded


def test_a_buffer_feeds_a_store(store: AnyStore) -> None:
    of_submit, uuid = uuid7(), uuid7()
    store.run(create(of_submit), start(uuid, of_submit))
    buffer = LogBuffer(uuid)
    lines = [f"line {n} {'é' * (n % 7)}\n" for n in range(20_000)]
    for line in lines:
        if statement := buffer.add(line):
            store.run(statement)
    if statement := buffer.flush():
        store.run(statement)
    assert store.run(job.log(uuid)) == "".join(lines)


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([], Outcome(False, None, None, None)),
        (["make: done"], Outcome(False, None, None, None)),
        (["#BUTIDO:STATE:OK"], Outcome(True, None, None, None)),
        (["#BUTIDO:STATE:OK\r\n"], Outcome(True, None, None, None)),
        (['#BUTIDO:STATE:ERR:"no gcc"'], Outcome(False, "no gcc", None, None)),
        (["#BUTIDO:STATE:ERR:no gcc"], Outcome(False, "no gcc", None, None)),
        (['#BUTIDO:STATE:ERR:"'], Outcome(False, '"', None, None)),
        # What a job's end would refuse as its reason.
        (["#BUTIDO:STATE:ERR:"], Outcome(False, None, None, None)),
        (['#BUTIDO:STATE:ERR:""'], Outcome(False, None, None, None)),
        (["#BUTIDO:STATE:ERR:a\0\udcff"], Outcome(False, "a\\x00\\xff", None, None)),
        # The last STATE line wins.
        (["#BUTIDO:STATE:ERR:x", "#BUTIDO:STATE:OK"], Outcome(True, None, None, None)),
        (["#BUTIDO:STATE:OK", "#BUTIDO:STATE:ERR:x"], Outcome(False, "x", None, None)),
        # Column 0 and upper case only, and nothing after OK.
        ([" #BUTIDO:STATE:OK"], Outcome(False, None, None, None)),
        (["#butido:state:ok"], Outcome(False, None, None, None)),
        (["#BUTIDO:STATE:OKAY"], Outcome(False, None, None, None)),
        (["echo #BUTIDO:STATE:OK"], Outcome(False, None, None, None)),
        (
            [
                "#BUTIDO:PHASE:unpack",
                "#BUTIDO:PROGRESS:1",
                "#BUTIDO:PHASE:build",
                "#BUTIDO:PROGRESS:50",
            ],
            Outcome(False, None, 50, "build"),
        ),
        (
            ["#BUTIDO:PROGRESS:x", "#BUTIDO:PROGRESS:" + "9" * 5000],
            Outcome(False, None, None, None),
        ),
    ],
)
def test_the_line_protocol(lines: list[str], outcome: Outcome) -> None:
    assert read_outcome(lines) == outcome
