"""Outcomes that the server will not take: they are left in the spool."""

import pickle
import signal
import subprocess
from pathlib import Path

import pytest

from sheepdog.client import CHECKPOINT, REPORT, RESULT, Message, Outcome
from sheepdog.client.parent.outbox import Outbox
from sheepdog.client.wire.limits import MAX_BATCH
from sheepdog.client.wire.records import NO_STATUS, RECORD, Records, taken_apart
from tests.client.shepherd import WAIT_FOR, Shepherd
from tests.faults import fault
from tests.waiting import until


def with_undelivered(shepherd: Shepherd, tmp_path: Path, status: int, **constants: float) -> subprocess.Popen[bytes]:
    """Return a worker that has the outcomes 2 to 7, which the server will not take."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = b'7'"
    server = shepherd.serve(*[("result = b'x' * 400_000",)] * 6, (wait, str(go)), heartbeat=60.0)
    worker = shepherd.work(server, {"BATCH_STUCK": 100.0, **constants}, notice=3)
    until(begun.exists, "the last task has begun")
    assert list(server.outcomes) == [1]
    server.status = (status, {})
    go.touch()
    return worker


@fault(
    21,
    "the server refuses a worker that has outcomes",
    promise="it ends at once, and leaves them in files, to be collected",
)
def test_a_worker_that_is_refused_leaves_its_outcomes_in_the_spool(shepherd: Shepherd, tmp_path: Path) -> None:
    assert with_undelivered(shepherd, tmp_path, 403).wait(60) == 1
    found = shepherd.spooled()
    assert sorted(found) == [2, 3, 4, 5, 6, 7]
    assert pickle.loads(found[7].value) == b"7"


@pytest.mark.slow
def test_the_files_of_a_spool_are_of_the_size_of_a_call(shepherd: Shepherd, tmp_path: Path) -> None:
    worker = with_undelivered(shepherd, tmp_path, 507, MAX_CALL=1_000_000)
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(60) == 0
    assert sorted(shepherd.spooled()) == [2, 3, 4, 5, 6, 7]
    sizes = [path.stat().st_size for path in (shepherd.directory / "spool").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) < 1_000_000


@pytest.mark.slow
def test_a_spool_that_cannot_be_written_is_logged(shepherd: Shepherd, tmp_path: Path) -> None:
    (shepherd.directory / "spool").write_text("")
    worker = with_undelivered(shepherd, tmp_path, 507)
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(60) == 0
    assert "6 outcomes are lost: they cannot be written to" in shepherd.log()


def message(task: int, kind: int, number: int) -> Message:
    return Message(task, 1, kind, number, b"%d" % number)


def outcome(task: int) -> Outcome:
    return Outcome(task, 1, RESULT, 0.1, b"r", b"", 0, None, 0)


def test_what_has_ended_does_not_wait_for_what_the_next_task_says() -> None:
    outbox = Outbox()
    outbox.add_messages([message(1, REPORT, 1)])
    outbox.add([outcome(1)])
    outbox.add_messages([message(2, REPORT, number) for number in range(2, 5 * MAX_BATCH)])
    outbox.add([outcome(2)])
    sent = outbox.first()
    assert (sent.outcomes, sent.messages[0], sent.last) == ([outcome(1)], message(1, REPORT, 1), False)
    assert outbox.behind(sent) == [(2, 1)]
    said = []
    while outbox:
        sent = outbox.first()
        said += sent.messages
        outbox.forget(sent)
    assert sent.outcomes == [outcome(2)]
    assert [each.number for each in said] == [*range(1, 5 * MAX_BATCH)]
    assert outbox.weight == 0


def test_a_checkpoint_takes_the_place_of_the_task_s_last_one() -> None:
    outbox = Outbox()
    outbox.add_messages([message(1, CHECKPOINT, 1), message(1, REPORT, 2)])
    outbox.add([outcome(1)])
    outbox.add_messages([message(2, CHECKPOINT, 3), message(2, CHECKPOINT, 4)])
    outbox.add_messages([message(2, REPORT, 5), message(2, CHECKPOINT, 6)])
    sent = outbox.first()
    assert [each.number for each in sent.messages] == [1, 2, 5, 6]
    outbox.drop({2})
    assert [each.number for each in outbox.first().messages] == [1, 2]
    outbox.forget(outbox.first())
    assert (len(outbox), outbox.weight) == (0, 0)


def records(*tasks: int, value: bytes = b"r") -> Records:
    data = b"".join(RECORD.pack(task, 7, RESULT, 0.1, NO_STATUS, 0, len(value), 0) + value for task in tasks)
    return Records(data, list(tasks), [0.1] * len(tasks), 0)


def test_records_go_as_they_are_and_those_dropped_are_taken_out() -> None:
    outbox = Outbox()
    outbox.add([records(1, 2, 3), outcome(4), records(5)])
    assert len(outbox) == 5
    sent = outbox.first()
    assert (sent.outcomes, sent.records, sent.header["records"]) == ([outcome(4)], [records(1, 2, 3), records(5)], 2)
    assert sent.blobs == [b"r", b"", records(1, 2, 3).data, records(5).data]
    outbox.drop({2})
    assert [each.task for each in taken_apart(outbox.items)] == [1, 3, 4, 5]
    outbox.forget(outbox.first())
    assert not outbox


def test_a_call_brings_so_many_records() -> None:
    outbox = Outbox()
    outbox.add([records(*range(first, first + MAX_BATCH)) for first in (1, 1001, 2001)])
    sent = outbox.first()
    assert (len(sent.records), sent.last) == (2, False)
    assert outbox.behind(sent) == [(task, 7) for task in range(2001, 3001)]
