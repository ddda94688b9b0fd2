"""Tasks that have ended and have no row each: a range says that they were delivered, or how they ended together."""

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
    assert storage.db.execute("SELECT count(*) FROM ended_range").fetchone() == (0,)


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


@fault("cancel", "a request of very many tasks is cancelled", promise="one range says it of all that never began")
def test_tasks_that_were_never_begun_end_as_one_range(storage: Storage) -> None:
    request = request_of(storage, 1000)
    storage.set_leased(request, 3)
    end(storage, request, 2)
    assert storage.end_pending(request, Kind.CANCELLED, "cancelled") == 999
    assert storage.db.execute("SELECT count(*) FROM outcome").fetchone() == (3,)
    assert storage.db.execute("SELECT count(*), min(last - first) FROM ended_range").fetchone() == (1, 996)
    assert storage.delivered(request) == []
    assert storage.output(request, 1000) == b""
    assert storage.end_pending(request, Kind.CANCELLED, "again") == 0
    assert end(storage, request, 999) == [999]
    storage.remove_request(request)
    assert storage.db.execute("SELECT count(*) FROM ended_range").fetchone() == (0,)


def test_what_is_delivered_and_has_reported_is_not_cancelled(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_messages(request, [Message(1, 1, REPORT, 1, b"half")])
    end(storage, request, 1)
    storage.discard(request, [(1, 1)])
    assert storage.end_pending(request, Kind.CANCELLED, "cancelled") == 1
    assert storage.progress(request) == Progress(2, 1, 0, cancelled=1)


def everything(storage: Storage, request: int) -> list[object]:
    return [
        storage.progress(request),
        storage.pending(request),
        storage.delivered(request),
        sorted(storage.ended_among(request, [(1, 5), (6, 12)])),
        [*storage.outcomes(request, [(1, 7), (9, 12)])],
        [*storage.tasks(request)],
        [*storage.outputs(request)],
        [*storage.errors(request)],
        [*storage.attempts(request)],
        storage.get_errors(request),
        storage.get_tasks_with_results(request),
        storage.causes(request),
        storage.first_outcomes(request, 1),
        len(storage.first_outcomes(request, 12)),
        [storage.count_retried(request, failed) for failed in (False, True)],
    ]


TASKS = st.sets(st.integers(1, 12))


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=TASKS, failed=TASKS, given=TASKS, begun=TASKS, later=TASKS, leased=st.integers(0, 12))
def test_a_range_is_read_as_the_rows_would_be(
    storage: Storage, done: set[int], failed: set[int], given: set[int], begun: set[int], later: set[int], leased: int
) -> None:
    together, single = request_of(storage, 12), request_of(storage, 12)
    for request in (together, single):
        storage.set_leased(request, leased)
        storage.store_attempts(request, [Outcome(task=task, kind=Kind.LOST, attempt=1, value=b"?") for task in begun])
        end(storage, request, *done)
        storage.store_outcomes(request, [Outcome(task=task, kind=Kind.RAISED, value=b"E") for task in failed - done])
        storage.discard(request, runs_of(sorted(done & given)))
    storage.end_pending(together, Kind.CANCELLED, "cancelled")
    storage.end_pending(single, Kind.CANCELLED, "cancelled", range(1, 13))
    assert everything(storage, together) == everything(storage, single)
    for request in (together, single):
        storage.retry(request, {}, failed=False)
        storage.undo_retry(request, {})
    assert everything(storage, together) == everything(storage, single)
    for request in (together, single):
        storage.retry(request, {}, failed=False)
        end(storage, request, *(later & given))
    storage.end_pending(together, Kind.NOT_RUN, "not run")
    storage.end_pending(single, Kind.NOT_RUN, "not run", range(1, 13))
    for request in (together, single):
        storage.discard(request, runs_of(sorted(later)))
    assert everything(storage, together) == everything(storage, single)
    storage.remove_request(together)
    storage.remove_request(single)
    assert storage.db.execute("SELECT count(*) FROM ended_range").fetchone() == (0,)
