"""Tasks of which nothing is stored any more but that they have ended."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheepdog.client import REPORT, Message
from sheepdog.errors import RequestNotFound
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome, Progress
from sheepdog.values.ranges import runs_of
from tests.faults import fault
from tests.storage.samples import request_of


def end(storage: Storage, request: int, *tasks: int) -> list[int]:
    return storage.store_outcomes(request, [Outcome(task=task, value=b"r%d" % task) for task in tasks])


@fault(
    "database grows",
    "a result is reported again whose caller has it",
    promise="it has ended still: it is late, counted once and not run again",
)
def test_what_is_delivered_has_ended_still(storage: Storage) -> None:
    request = request_of(storage, 6)
    end(storage, request, 2, 3, 5)
    storage.discard(request, [(2, 3)])
    assert storage.pending(request) == [(1, 1), (4, 4), (6, 6)]
    assert sorted(storage.ended_among(request, [(1, 2), (3, 6)])) == [2, 3, 5]
    assert end(storage, request, 3, 4) == [3]
    assert storage.progress(request) == Progress(6, 4, 0)
    assert [index for index, *_ in storage.tasks(request)] == [1, 4, 5, 6]
    assert [outcome.task for outcome in storage.outcomes(request, [(1, 6)])] == [4, 5]
    assert storage.end_pending(request, Kind.CANCELLED, "cancelled") == 2
    assert storage.progress(request) == Progress(6, 4, 0, cancelled=2)


def test_nothing_else_is_stored_of_it(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_attempts(request, [Outcome(task=1, kind=Kind.RAISED, value=b"Error")])
    storage.store_outcomes(request, [Outcome(task=1, attempt=2, value=b"r", peak=9)])
    storage.discard(request, [(1, 1)])
    assert list(storage.attempts(request)) == []
    for table in ("outcome", "measure", "attempt", "checkpoint"):
        assert storage.db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    for read in (storage.arguments, storage.output):
        with pytest.raises(RequestNotFound, match=r"task 1 of request 1 is not stored any more .* keep"):
            read(request, 1)
    storage.remove_request(request)
    assert storage.db.execute("SELECT count(*) FROM delivered").fetchone() == (0,)


def test_what_it_has_reported_stays_with_its_arguments(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_messages(request, [Message(1, 1, REPORT, 1, b"half")])
    end(storage, request, 1, 2)
    storage.discard(request, [(1, 2)])
    assert [report.value for report in storage.reports(request)] == [b"half"]
    assert storage.arguments(request, 1) == b"args 1"
    assert list(storage.tasks(request)) == []
    assert list(storage.outputs(request)) == []


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sets(st.integers(1, 12), min_size=1), max_size=8))
def test_in_whatever_order(storage: Storage, steps: list[set[int]]) -> None:
    """Neighbours become one range, and other requests are left alone."""
    request, other = request_of(storage, 12), request_of(storage, 12)
    gone: set[int] = set()
    end(storage, other, 1)
    storage.discard(other, [(1, 1)])
    for tasks in steps:
        end(storage, request, *sorted(tasks))
        storage.discard(request, runs_of(sorted(tasks)))
        gone |= tasks
        assert storage.delivered(request) == [*runs_of(sorted(gone))]
        assert storage.pending(request) == [*runs_of(sorted({*range(1, 13)} - gone))]
        assert sorted(storage.ended_among(request, [(2, 7)])) == sorted(gone & {*range(2, 8)})
    assert storage.delivered(other) == [(1, 1)]
    assert storage.pending(other) == [(2, 12)]


def test_its_room_is_used_again(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", (), open=True)
    for _ in range(20):
        first = storage.add_tasks(request, [os.urandom(100_000) for _ in range(10)])
        tasks = range(first, first + 10)
        storage.store_outcomes(request, [Outcome(task=task, value=bytes(100_000)) for task in tasks])
        storage.discard(request, [(first, first + 9)])
    [size] = storage.db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    assert size < 3_000_000  # of 40
