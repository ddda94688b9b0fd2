"""Outcomes: the first of a task stays, and comes back as it was."""

import io
import os
import tempfile

import pytest

from sheepdog.errors import RequestNotFound
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome, StoredBlob
from tests.faults import fault
from tests.storage.samples import LARGE, request_of, unfinished


@fault(12, "a second outcome of a task", promise="the first stays as it is")
def test_a_second_outcome_of_a_task_changes_nothing(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_result(request, 1, b"first")
    storage.store_result(request, 1, b"second")
    storage.store_error(request, 1, b"third")
    both = [
        Outcome(task=2, kind=Kind.RAISED, value=b"e"),
        Outcome(task=2, kind=Kind.RESULT, value=b"r"),
        Outcome(task=2, kind=Kind.DIED, value=io.BytesIO(b"x")),
    ]
    assert storage.store_outcomes(request, both) == [2, 2]
    assert storage.store_outcomes(request, both) == [2, 2, 2]
    assert storage.get_results(request) == [(b"args 1", b"first")]
    assert storage.count_results_and_errors(request) == 2
    assert unfinished(storage) == []


@fault(13, "outcomes of which one cannot be stored", promise="all of a call are stored, or none")
@pytest.mark.parametrize("value", [b"small", b"large" * 3_000_000], ids=["small", "large"])
def test_outcomes_are_stored_all_or_none(storage: Storage, value: bytes) -> None:
    request = request_of(storage, 2)
    with storage.transaction(), pytest.raises(RequestNotFound):  # as when the server goes on with others' calls
        storage.store_outcomes(
            request,
            [
                Outcome(task=1, kind=Kind.RESULT, value=io.BytesIO(value)),
                Outcome(task=3, kind=Kind.RESULT, value=b"of no task"),
            ],
        )
    assert storage.count_results(request) == len(storage.get_results(request)) == 0
    assert storage.pending(request) == [(1, 2)]


def test_a_run_time_that_is_no_number_loses_no_outcome(storage: Storage) -> None:
    request = request_of(storage, 1)
    storage.store_outcomes(request, [Outcome(task=1, kind=Kind.RESULT, value=b"x", seconds=float("nan"))])
    assert storage.get_results(request) == [(b"args 1", b"x")]


@pytest.mark.slow
def test_large_values_go_through_files(storage: Storage) -> None:
    value = os.urandom(LARGE)
    request = storage.new_request(b"f" * LARGE, b"", [value])
    function, namespace = storage.function_blobs(request)
    assert isinstance(function, StoredBlob)
    assert b"".join(storage.chunks(function)) == b"f" * LARGE
    assert namespace == b""
    [(index, blob)] = storage.read_tasks(request, [1], limit=1)
    assert isinstance(blob, StoredBlob)
    assert (index, blob.length) == (1, LARGE)
    assert b"".join(storage.chunks(blob)) == value
    with tempfile.TemporaryFile() as file:
        file.write(value)
        assert storage.store_outcomes(request, [Outcome(task=1, kind=Kind.RESULT, value=file, peak=5)]) == []
    assert storage.get_results(request) == [(value, value)]
    assert [outcome.peak for outcome in storage.outcomes(request, [(1, 1)])] == [5]


def test_an_error_keeps_what_is_known_of_it(storage: Storage) -> None:
    request = request_of(storage, 1)
    outcome = Outcome(
        task=1, kind=Kind.RAISED, value=b"why", attempt=3, host="node", seconds=2.5, output=b"said", attempts=4
    )
    storage.store_outcomes(request, [outcome])
    assert list(storage.errors(request)) == [(b"args 1", outcome)]


def test_signal_status_and_peak_are_kept_with_an_outcome_and_an_attempt(storage: Storage) -> None:
    request = request_of(storage, 4)
    outcomes = [
        Outcome(task=1, peak=1 << 40, attempts=1),
        Outcome(task=2, kind=Kind.DIED, value=b"died", signal=9, attempts=1),
        Outcome(task=3, kind=Kind.DIED, value=b"died", status=0, attempts=1),
        Outcome(task=4, kind=Kind.RAISED, value=b"raised", attempts=1),
    ]
    attempt = Outcome(task=2, kind=Kind.DIED, value=b"died", signal=11, status=1, peak=5)
    storage.store_attempts(request, [attempt])
    storage.store_outcomes(request, outcomes)
    storage.store_outcomes(request, [Outcome(task=1, peak=7), Outcome(task=4, peak=7)])
    assert [*storage.outcomes(request, [(1, 4)])] == outcomes
    assert [outcome for _, outcome in storage.errors(request)] == outcomes[1:]
    assert [*storage.attempts(request)] == [(attempt, True)]
    assert storage.retry(request, {}, True) == 3
    assert [*storage.outcomes(request, [(1, 4)])] == outcomes[:1]
    history = [outcome for outcome, _ in storage.attempts(request)]
    assert history == [outcomes[1]._replace(attempts=0), *(each._replace(attempts=0) for each in outcomes[2:])]
    storage.remove_request(request)
    assert storage.db.execute("SELECT count(*) FROM measure").fetchone() == (0,)


def test_pending_tasks_are_ranges_and_can_be_ended_together(storage: Storage) -> None:
    request = request_of(storage, 9)
    for index in (1, 4, 5, 8):
        storage.store_result(request, index, b"r")
    assert storage.pending(request) == [(2, 3), (6, 7), (9, 9)]
    assert storage.end_pending(request, Kind.NOT_RUN, "the job is gone") == 5
    assert storage.pending(request) == []
    assert [outcome.task for _, outcome in storage.errors(request)] == [2, 3, 6, 7, 9]
    assert {outcome.value for _, outcome in storage.errors(request)} == {b"the job is gone"}
    assert storage.end_pending(request, Kind.NOT_RUN, "again") == 0


def test_tasks_that_are_ended_together_tell_how_often_they_may_have_been_begun(storage: Storage) -> None:
    request = request_of(storage, 4)
    storage.set_leased(request, 2)
    storage.store_attempts(
        request,
        [Outcome(task=2, kind=Kind.LOST, value=b"", attempt=3), Outcome(task=3, kind=Kind.LOST, value=b"", attempt=1)],
    )
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    assert [outcome.attempts for _, outcome in storage.errors(request)] == [1, 4, 1, 0]


def test_the_first_outcomes_since_the_submission(storage: Storage) -> None:
    request = request_of(storage, 5)
    storage.store_outcomes(
        request,
        [Outcome(task=1, kind=Kind.RAISED, value=b"long ago"), Outcome(task=5, kind=Kind.RESULT, value=b"long ago")],
    )
    storage.db.execute("UPDATE outcome SET stored = stored - 100")
    storage.store_error(request, 3, b"a")
    storage.store_error(request, 2, b"b")
    storage.db.execute("UPDATE outcome SET stored = stored + 10 WHERE value = ?", (b"b",))
    assert [outcome.value for outcome in storage.first_outcomes(request, 5)] == [b"a", b"b"]
    assert [outcome.value for outcome in storage.first_outcomes(request, 1)] == [b"a"]
    storage.store_result(request, 4, b"r")
    assert [outcome.kind for outcome in storage.first_outcomes(request, 5)] == [Kind.RESULT]


def test_the_output_of_a_task_that_ended_elsewhere_is_that_of_its_last_attempt(storage: Storage) -> None:
    request = request_of(storage, 4)
    storage.set_leased(request, 3)
    storage.store_attempts(
        request,
        [
            Outcome(task=task, kind=Kind.INTERRUPTED, value=b"", attempt=attempt, output=b"%d" % attempt)
            for task in (1, 2)
            for attempt in (1, 2)
        ],
    )
    storage.store_result(request, 2, b"r")  # and printed nothing
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    for task in (1, 2, 3, 4):
        storage.keep_output(request, Outcome(task=task, kind=Kind.INTERRUPTED, value=b"", output=b"told at last"))
    assert [storage.output(request, task) for task in (1, 2, 3, 4)] == [b"told at last", b"", b"told at last", b""]
    assert [output for _, output in storage.outputs(request)] == [b"told at last", b"", b"told at last", b""]
    storage.db.execute("UPDATE outcome SET output = NULL")
    assert [storage.output(request, task) for task in (1, 2, 3)] == [b"2", b"", b""]
    assert [output for _, output in storage.outputs(request)] == [b"2", b"", b"", b""]
