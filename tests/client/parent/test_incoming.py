"""What comes out of the child's pipe, in pieces of any size."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheepdog.client import CHECKPOINT, IN_MEMORY, RAISED, REPORT, RESULT, chunks_of
from sheepdog.client.child.pipe import LOADED
from sheepdog.client.parent.incoming import Incoming
from sheepdog.client.wire.limits import COPIED
from sheepdog.client.wire.records import NO_STATUS, RECORD, Records, outcomes_in

SAID = st.tuples(
    st.integers(0, 9),
    st.sampled_from([RESULT, RAISED, REPORT, CHECKPOINT]),
    st.binary(max_size=9),
    st.binary(max_size=5),
)


def packed(index: int, kind: int, value: bytes, output: bytes) -> bytes:
    return RECORD.pack(index, 1, kind, 0.5, NO_STATUS, 4096, len(value), len(output)) + value + output


def told_by(found: Any) -> list[tuple[int, int, bytes, bytes]]:
    """Return index, kind, value and output of what came out of the pipe."""
    if not isinstance(found, Records):
        head, value, output = found
        return [(head[0], head[2], value, output)]
    outcomes = outcomes_in(found.data)
    assert [(each.task, each.seconds) for each in outcomes] == list(zip(found.tasks, found.seconds, strict=True))
    return [(each.task, each.kind, each.value, each.output) for each in outcomes]


def read(value: Any) -> bytes:
    return b"".join(chunks_of(value))


@settings(deadline=None)
@given(said=st.lists(SAID), size=st.integers(1, 100))
def test_whatever_the_pieces_what_was_said_is_heard(said: list[tuple[int, int, bytes, bytes]], size: int) -> None:
    said = [
        (index, kind, value, b"" if kind in (REPORT, CHECKPOINT) else output) for index, kind, value, output in said
    ]
    data = b"".join(packed(*each) for each in said)
    incoming = Incoming()
    found = [each for start in range(0, len(data), size) for each in incoming.feed(data[start : start + size])]
    heard = [said for each in found for said in told_by(each)]
    assert heard == [each for each in said if each[1] not in (REPORT, CHECKPOINT)]
    messages = incoming.take_messages()
    told = [(index, kind, value) for index, kind, value, _ in said if kind in (REPORT, CHECKPOINT)]
    assert [(each.task, each.kind, each.value) for each in messages] == told
    assert [each.number for each in messages] == list(range(1, len(told) + 1))
    assert (incoming.take_messages(), incoming.weight) == ([], 0)


@pytest.mark.parametrize("kind", [RESULT, REPORT])
@pytest.mark.parametrize("size", [7, COPIED - 1, COPIED, COPIED + 60, 4 * COPIED])
def test_what_is_not_small_is_put_together(size: int, kind: int) -> None:
    values = [bytes([number]) * length for number, length in enumerate((COPIED - 1, COPIED, 1, COPIED + 1))]
    data = b"".join(packed(7, kind, value, b"printed" if kind == RESULT else b"") for value in values)
    incoming = Incoming()
    found = [each for start in range(0, len(data), size) for each in incoming.feed(data[start : start + size])]
    heard = [value for each in found for _, _, value, _ in told_by(each)]
    assert heard + [message.value for message in incoming.take_messages()] == values
    assert not incoming.in_outcome


@pytest.mark.parametrize("size", [IN_MEMORY // 3, IN_MEMORY, 3 * IN_MEMORY])
def test_a_large_value_goes_into_a_file(size: int) -> None:
    value = b"x" * (IN_MEMORY + 1)
    data = packed(1, RESULT, value, b"printed") + packed(0, LOADED, b"", b"")
    incoming = Incoming()
    found = [each for start in range(0, len(data), size) for each in incoming.feed(data[start : start + size])]
    assert not isinstance(found[0][1], bytes)
    with found[0][1] as file:
        assert read(file) == value
    assert [(item[0][0], item[2]) for item in found] == [(1, b"printed"), (0, b"")]


@pytest.mark.parametrize(("kind", "expected"), [(RESULT, True), (REPORT, False)])
def test_an_outcome_on_its_way_is_told_from_a_message(kind: int, expected: bool) -> None:
    data = packed(1, kind, b"x" * (IN_MEMORY + 1), b"")
    incoming = Incoming()
    assert list(incoming.feed(data[:-1])) == []
    assert incoming.in_outcome == expected
    found = list(incoming.feed(data[-1:]))
    assert not incoming.in_outcome
    for value in [value for _, value, *_ in found] + [message.value for message in incoming.take_messages()]:
        value.close()
