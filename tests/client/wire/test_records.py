"""Records: what the child writes is what the server reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepdog.client import RAISED, RESULT
from sheepdog.client.wire.records import NO_STATUS, RECORD, Records, number_of, outcomes_in, taken_apart
from sheepdog.server.calls import read_records

TOLD = st.tuples(
    st.integers(1, 1 << 31),
    st.integers(1, (1 << 31) - 1),
    st.sampled_from([RESULT, RAISED]),
    st.floats(0, 1e6),
    st.sampled_from([NO_STATUS, 0, 255]),
    st.integers(0, (1 << 62) - 1),
    st.binary(max_size=9),
    st.binary(max_size=5),
)


def record(*told: object) -> bytes:
    *head, value, output = told
    assert isinstance(value, bytes)
    assert isinstance(output, bytes)
    return RECORD.pack(*head, len(value), len(output)) + value + output


@given(said=st.lists(TOLD))
def test_both_ends_read_the_same(said: list[tuple[object, ...]]) -> None:
    data = b"".join(record(*each) for each in said)
    here = outcomes_in(data)
    told = [(*each[:4], NO_STATUS if each.status is None else each.status, each.peak, *each[4:6]) for each in here]
    assert told == said
    there = read_records([data], "node1")
    assert [(*each[:6], each.signal, each.status, each.peak) for each in there] == [tuple(each) for each in here]
    assert {each.host for each in there} <= {"node1"}


@pytest.mark.parametrize("cut", [1, 9, RECORD.size])
def test_what_is_cut_off_is_no_record(cut: int) -> None:
    data = record(1, 1, RESULT, 0.5, NO_STATUS, 0, b"value", b"")
    with pytest.raises(ValueError, match="cut off"):
        outcomes_in((data + data)[:-cut])
    with pytest.raises(ValueError, match="record"):
        read_records([(data + data)[:-cut]], "")


def test_records_among_outcomes() -> None:
    data = b"".join(record(task, 1, RESULT, 0.5, NO_STATUS, 0, b"value", b"") for task in (1, 2))
    items = [*outcomes_in(data), Records(data, [1, 2], [0.5, 0.5], 0)]
    assert number_of(items) == 4
    assert [each.task for each in taken_apart(items)] == [1, 2, 1, 2]
