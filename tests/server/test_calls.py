"""What of a worker's call is accepted, and what is said of a Python that cannot have the function."""

from typing import Any

import pytest

from sheepdog.client import CHECKPOINT, REPORT
from sheepdog.client.wire.records import RECORD
from sheepdog.server.calls import MAX_HELD, MOST_RECORDS, Call, clean, fitting, read_exchange
from sheepdog.values.forms import Form
from sheepdog.values.model import Kind, Outcome

HEADER: dict[str, Any] = {"outcomes": [[3, 1, 0, 0.5]], "want": 2, "call": 7, "holding": [[4, 6, 2]], "host": "node1"}
FORM = {"implementation": "cpython", "version": "3.11.7", "magic": "a70d0d0a"}


def test_all_that_a_worker_says() -> None:
    more = {"messages": [[4, 2, REPORT, 1], [5, 2, CHECKPOINT, 9]], "leaving": {"seconds": 3, "reason": "SIGTERM"}}
    said = read_exchange(Call(1, "exchange", {**HEADER, **more}, [b"value", b"output", b"report", b"state"]))
    [outcome] = said.outcomes
    assert (outcome.task, outcome.attempt, outcome.kind, outcome.host) == (3, 1, Kind.RESULT, "node1")
    assert (outcome.value, outcome.output, outcome.seconds) == (b"value", b"output", 0.5)
    assert [(each.task, each.value) for each in said.messages] == [(4, b"report"), (5, b"state")]
    assert said.held == {4: 2, 5: 2, 6: 2}
    assert (said.want, said.number, said.leaving, said.reason) == (2, 7, 3.0, "SIGTERM")
    assert said.tasks == {3, 4, 5}


def test_outcomes_come_as_a_header_tells_them_and_as_the_child_has_written_them() -> None:
    """The first is how workers of earlier versions say it, and how large ones come."""
    data = RECORD.pack(4, 2, int(Kind.RAISED), 0.25, 3, 4096, 5, 3) + b"wrongout"
    header = {**HEADER, "messages": [[4, 2, REPORT, 1]], "records": 1}
    said = read_exchange(Call(1, "exchange", header, [b"value", b"output", b"report", data]))
    first, second = said.outcomes
    assert (first.task, first.value, first.host) == (3, b"value", "node1")
    assert second == Outcome(4, 2, Kind.RAISED, 0.25, b"wrong", b"out", "node1", 0, 0, 3, 4096)
    assert [each.value for each in said.messages] == [b"report"]


@pytest.mark.parametrize("record", [(1, 0, 0, 0.5, -1, 0), (1, 1, 0, float("inf"), -1, 0), (1, 1, 0, 0.5, -1, 1 << 63)])
def test_a_record_that_is_not_accepted(record: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a record needs"):
        read_exchange(Call(1, "exchange", {**HEADER, "outcomes": [], "records": 1}, [RECORD.pack(*record, 0, 0)]))


def test_records_are_no_more_than_a_worker_brings() -> None:
    data = RECORD.pack(1, 1, 0, 0.5, -1, 0, 0, 0) * (MOST_RECORDS // 2 + 1)
    for records in ([data, data], [data + data]):
        with pytest.raises(ValueError, match="records at most"):
            read_exchange(Call(1, "exchange", {**HEADER, "outcomes": [], "records": len(records)}, records))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"want": -1}, "want and call"),
        ({"want": True}, "want and call"),
        ({"call": 0}, "want and call"),
        ({"outcomes": []}, "blobs"),
        ({"records": 1}, "blobs"),
        ({"records": -1}, "blobs"),
        ({"outcomes": [["3", 1, 0, 0.5]]}, "an outcome needs the numbers"),
        ({"outcomes": [[3, 0, 0, 0.5]]}, "an outcome needs the numbers"),
        ({"outcomes": [[3, 1, 0, float("nan")]]}, "its kind, its run time"),
        ({"messages": [[3, 1, REPORT, 1]]}, "1 outcomes and 1 messages need 3 blobs, not 2"),
        ({"holding": [[1, 2, 0]]}, "holding must be runs"),
        ({"holding": [[2, 1, 1]]}, f"holds {MAX_HELD} tasks at most"),
        ({"holding": [[1, MAX_HELD, 1], [MAX_HELD + 1, MAX_HELD + 1, 1]]}, f"holds {MAX_HELD} tasks at most"),
        ({"leaving": {"seconds": -1, "reason": ""}}, "in how many seconds"),
    ],
)
def test_what_is_not_accepted(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_exchange(Call(1, "exchange", {**HEADER, **wrong}, [b"value", b"output"]))


def test_a_message_is_a_report_or_a_checkpoint() -> None:
    call = Call(1, "exchange", {**HEADER, "outcomes": [], "messages": [[4, 1, 77, 1]]}, [b"value"])
    with pytest.raises(ValueError, match="a report or a checkpoint"):
        read_exchange(call)


@pytest.mark.parametrize(("said", "shown"), [(None, ""), (7, "7"), ("x" * 999, "x" * 255), ("a\ud800", "a?")])
def test_what_a_worker_says_of_itself_can_be_stored(said: object, shown: str) -> None:
    assert clean(said) == shown


def test_a_python_that_can_load_the_function() -> None:
    form = fitting(FORM, {**FORM, "executable": "/usr/bin/python3"}, "node1")
    assert isinstance(form, Form)
    assert form.name == "cloudpickle"


def test_a_python_that_cannot_is_named_with_the_key_to_change() -> None:
    theirs = {"implementation": "cpython", "version": "3.9.2", "magic": 3425, "executable": "/usr/bin/python3"}
    said = fitting(FORM, theirs, "node1")
    assert said == (
        "the worker on node1 runs cpython 3.9.2 (/usr/bin/python3), the function was made by cpython 3.11.7: "
        "set the option `python`, not `shell`, to '3.11', or put what goes by value (a lambda, what a script or a "
        "notebook defines) into a module of your own"
    )
    assert fitting(FORM, "3.11", "node1") == "the worker does not say what Python it runs"
