"""The history: attempts, and tasks that are tried again."""

import pytest

from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, Kind, Outcome, Progress, RequestState
from tests.storage.samples import request_of


def test_an_attempt_is_kept_once(storage: Storage) -> None:
    request = request_of(storage, 3)
    attempt = Outcome(task=2, kind=Kind.RAISED, value=b"why", attempt=1, host="node", seconds=2.5, output=b"said")
    assert storage.store_attempts(request, [attempt, attempt]) == [True, False]
    assert storage.store_attempts(request, [attempt._replace(value=b"again")]) == [False]
    noted = Outcome(task=1, kind=Kind.LOST, value=b"lost", attempt=3)
    assert storage.store_attempts(request, [noted], counts=False) == [True]
    assert list(storage.attempts(request)) == [(noted, False), (attempt, True)]
    storage.store_result(request, 2, b"r")
    assert list(storage.attempts(request)) == [(noted, False), (attempt, True)]
    assert list(storage.attempts(request, pending=True)) == [(noted, False)]


def ended_request(storage: Storage) -> int:
    """Its tasks: a result, an error, never run, cancelled."""
    request = request_of(storage, 4)
    storage.set_leased(request, 4)
    storage.store_attempts(request, [Outcome(task=2, kind=Kind.LOST, value=b"lost", attempt=1)])
    kinds = [Kind.RESULT, Kind.RAISED, Kind.NOT_RUN, Kind.CANCELLED]
    values = [
        Outcome(task=index, kind=kind, value=kind.name.encode(), attempt=2, signal=index % 3, peak=index // 3)
        for index, kind in enumerate(kinds, 1)
    ]
    storage.store_outcomes(request, values)
    return request


@pytest.mark.parametrize(("failed", "pending"), [(False, [(3, 4)]), (True, [(2, 4)])])
def test_what_is_tried_again(storage: Storage, failed: bool, pending: list[tuple[int, int]]) -> None:
    request = ended_request(storage)
    before = storage.get_request(request)
    assert storage.retry(request, {"retries": 7}, failed) == sum(last - first + 1 for first, last in pending)
    assert storage.pending(request) == pending
    assert storage.get_results(request) == [(b"args 1", b"RESULT")]
    assert storage.progress(request) == Progress(4, 1, 0 if failed else 1)
    now = storage.get_request(request)
    assert now.token != before.token
    assert (now.state, now.options, now.leased, now.gave_up) == (RequestState.NEW, {"retries": 7}, 0, False)
    history = [(outcome.task, outcome.attempt, outcome.kind, counts) for outcome, counts in storage.attempts(request)]
    again = [(2, 2, Kind.RAISED, False)] if failed else []
    others = [(3, 2, Kind.NOT_RUN, False), (4, 2, Kind.CANCELLED, False)]
    assert history == [(2, 1, Kind.LOST, False), *again, *others]


def test_a_retry_that_is_undone_leaves_everything_as_it_was(storage: Storage) -> None:
    request = ended_request(storage)

    def all_of_it() -> list[object]:
        history = [(outcome, counts) for outcome, counts in storage.attempts(request) if not counts]
        return [storage.progress(request), list(storage.errors(request)), list(storage.results(request)), history]

    storage.store_outcomes(request, [])
    storage.db.execute("UPDATE attempt SET counts = 0")
    before, was = all_of_it(), storage.get_request(request)
    assert storage.retry(request, {"retries": 7}, failed=True) == 3
    storage.undo_retry(request, was.options)
    assert all_of_it() == before
    now = storage.get_request(request)
    assert (now.state, now.options) == (RequestState.ENDED, was.options)
    assert now.token != was.token
    storage.undo_retry(request, {})  # what has ended is left alone
    assert storage.get_request(request) == now


def test_what_was_never_begun_keeps_its_error_when_a_retry_is_undone(storage: Storage) -> None:
    request = request_of(storage, 3)
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    before = list(storage.errors(request))
    for _ in range(2):
        assert storage.retry(request, {}, failed=True) == 3
        assert list(storage.attempts(request, pending=True)) == []  # that was no attempt
        storage.undo_retry(request, {})
        assert list(storage.errors(request)) == before
        assert list(storage.attempts(request)) == []


def test_a_retried_request_ends_again_and_its_array_jobs_are_over(storage: Storage) -> None:
    request = ended_request(storage)
    storage.new_array(request, ArrayJob(0, "n", "d", 1))
    storage.retry(request, {}, failed=True)
    assert storage.arrays(request)[0].ended is not None
    storage.store_outcomes(request, [Outcome(task=index, kind=Kind.RESULT, value=b"now") for index in (2, 3, 4)])
    assert storage.get_request(request).state == RequestState.ENDED
    assert storage.progress(request) == Progress(4, 4, 0)


@pytest.mark.parametrize("case", ["has not ended", "has only results"])
def test_what_cannot_be_tried_again_stays_as_it_is(storage: Storage, case: str) -> None:
    request = request_of(storage, 2)
    storage.store_error(request, 1, b"why")
    if case == "has only results":
        request = request_of(storage, 1)
        storage.store_result(request, 1, b"r")
    before = (storage.get_request(request), list(storage.tasks(request)))
    assert storage.retry(request, {"retries": 7}, failed=True) == 0
    assert (storage.get_request(request), list(storage.tasks(request))) == before


def test_a_request_without_tasks_is_not_tried_again(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [])
    assert storage.retry(request, {}, failed=True) == 0
