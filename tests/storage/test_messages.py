"""Messages: reports and checkpoints come back as they were."""

import io
import time
from typing import Any

import pytest

from sheepdog.client import CHECKPOINT, REPORT, Message
from sheepdog.errors import RequestNotFound, StorageError
from sheepdog.storage import Storage
from tests.faults import fault
from tests.storage.samples import LARGE


def report(task: int, value: Any, number: int = 1, attempt: int = 1) -> Message:
    return Message(task, attempt, REPORT, number, value)


def checkpoint(task: int, value: Any, attempt: int = 1, number: int = 1) -> Message:
    return Message(task, attempt, CHECKPOINT, number, value)


def test_reports_can_be_asked_for_by_task_and_from_one_on(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"x"] * 3)
    other = storage.new_request(b"f", b"", [b"x"])
    storage.store_messages(request, [report(1, b"a"), report(2, b"b")])
    storage.store_messages(other, [report(1, b"other")])
    before = time.time()
    storage.store_messages(request, [report(1, b"c", 2)])
    found = list(storage.reports(request))
    assert [(each.task, each.attempt, each.value) for each in found] == [(1, 1, b"a"), (2, 1, b"b"), (1, 1, b"c")]
    assert before <= found[-1].stored <= time.time()
    assert list(storage.reports(request, task=1)) == [found[0], found[2]]
    assert list(storage.reports(request, after=found[0].number)) == found[1:]
    assert list(storage.reports(request, 2, found[1].number)) == []
    storage.remove_request(request)
    assert [each.value for each in storage.reports(other)] == [b"other"]
    assert storage.db.execute("SELECT count(*) FROM report").fetchone() == (1,)
    again = storage.new_request(b"f", b"", [b"x"])
    storage.store_messages(again, [report(1, b"d")])
    assert next(storage.reports(again)).number > found[-1].number  # who has read on to there misses nothing


@pytest.mark.parametrize("task", [0, 3, -1, 2**32 + 1, "1"])
def test_reports_of_no_task(storage: Storage, task: Any) -> None:
    request = storage.new_request(b"f", b"", [b"x"] * 2)
    with pytest.raises(RequestNotFound, match="has no task"):
        storage.reports(request, task)
    with pytest.raises(RequestNotFound, match="there is no request"):
        storage.reports(99)


@pytest.mark.slow
def test_large_reports_and_checkpoints_come_as_files(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"x"])
    for attempt in (1, 2):
        storage.store_messages(
            request, [report(1, io.BytesIO(b"r" * LARGE)), checkpoint(1, io.BytesIO(b"c" * LARGE), attempt)]
        )
    assert [each.value for each in storage.reports(request)] == [b"r" * LARGE]
    found, _ = storage.read_checkpoints(request, [1], 1)
    assert b"".join(storage.chunks(found[1])) == b"c" * LARGE  # type: ignore[arg-type]


@fault(13, "messages of which one cannot be stored", promise="all of a call are stored, or none")
def test_messages_are_stored_all_or_none(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"x"])
    with pytest.raises(StorageError):
        storage.store_messages(request, [report(1, b"a"), checkpoint(1, b"c"), report(1, b"b", 2, None)])  # type: ignore[arg-type]
    assert list(storage.reports(request)) == []
    assert storage.read_checkpoints(request, [1], 1) == ({}, set())
