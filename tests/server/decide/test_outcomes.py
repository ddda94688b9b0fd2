"""What becomes of tasks whose attempts have ended, over a real store."""

from collections.abc import Sequence
from typing import Any

import pytest

from sheepdog.errors import StorageError
from sheepdog.server.calls import Reply
from sheepdog.server.decide import clock
from sheepdog.server.decide.policy import FRESH, MAX_INTERRUPTIONS
from sheepdog.storage import Storage
from sheepdog.storage.schema import SPAN
from sheepdog.values.model import Kind, RequestState
from tests.faults import fault
from tests.server.decide.farm import LEASE, Farm

# An attempt that fails, and others after it


@fault("retry", "a task fails, and retries were asked for", promise="it runs again after a pause, not before")
def test_a_failure_is_tried_again_after_its_delay(storage: Storage) -> None:
    farm = Farm(storage, [b"1"], retries=1, retry_delay=10.0)
    farm.take("w1", 1)
    assert farm.exchange("w1", 1, {1: b"E: no"}, kind=Kind.RAISED).header == {"stored": 1, "tasks": [], "wait": 1.0}
    assert farm.history == [(1, 1, Kind.RAISED, True)]
    assert farm.take("w1", 1) == []
    farm.now += 10.0
    assert farm.exchange("w1", 1).header["tasks"] == [[1, 2]]
    assert farm.exchange("w1", 1, {1: b"result"}, attempt=2).header["stop"]
    [(_, value)] = storage.get_results(farm.request)
    assert value == b"result"
    assert farm.history == [(1, 1, Kind.RAISED, True)]


def test_the_last_failure_is_the_error_and_the_others_its_history(storage: Storage) -> None:
    farm = Farm(storage, [b"1"], retries=1, retry_delay=0.0)
    for attempt in (1, 2):
        farm.take("w1", 1)
        farm.exchange("w1", 0, {1: b"E: %d" % attempt}, kind=Kind.RAISED, attempt=attempt)
    [(_, outcome)] = storage.errors(farm.request)
    assert (outcome.value, outcome.attempt, outcome.attempts) == (b"E: 2", 2, 2)
    [(before, _)] = storage.attempts(farm.request)
    assert (before.value, before.attempt, before.host, before.seconds) == (b"E: 1", 1, "node1", 0.5)


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.RAISED, Kind.INTERRUPTED])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_call_that_is_repeated_because_its_reply_was_lost_changes_nothing(
    storage: Storage, kind: Kind, retries: int
) -> None:
    farm = Farm(storage, [b""] * 4, retries=retries, retry_delay=0.0)
    farm.take("w1", 1)
    assert farm.exchange("w1", 1, {1: b"value"}, kind=kind).header["stored"] == 1
    rows, history = list(storage.tasks(farm.request)), farm.history
    for _ in range(3):
        reply = farm.exchange("w1", 1, {1: b"value"}, kind=kind)
        assert (reply.header["stored"], reply.header["late"]) == (0, [1])
    assert list(storage.tasks(farm.request)) == rows
    assert farm.history == history
    ended = kind == Kind.RESULT or (kind == Kind.RAISED and not retries)
    assert farm.live.queue.size == 4 - ended
    assert farm.live.queue.past.get(1, FRESH).failures == (not ended and kind == Kind.RAISED)


def test_what_a_worker_says_late_of_a_task_that_has_ended_does_not_begin_it_again(storage: Storage) -> None:
    farm = Farm(storage, [b"1", b"2"], retries=5)
    farm.take("w1", 1)
    farm.exchange("w2", 0, {1: b"result"})
    for kind in (Kind.RAISED, Kind.INTERRUPTED, Kind.DIED):
        assert farm.exchange("w1", 0, {1: b"why"}, kind=kind).header["late"] == [1]
    assert farm.live.queue.size == 1
    assert farm.history == []


@fault((10, 12), "a late error, of an attempt that was given up", promise="it is noted, and ends nothing")
def test_an_error_of_an_attempt_that_was_given_up_is_noted_only(farm: Farm) -> None:
    farm.take("w1", 1)
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert farm.exchange("w2", 1).header["tasks"] == [[1, 2]]
    reply = farm.exchange("w1", 0, {1: b"E: late"}, kind=Kind.RAISED)
    assert (reply.header["late"], farm.errors) == ([1], [])
    assert farm.history == [(1, 1, Kind.LOST, True), (1, 1, Kind.RAISED, False)]
    assert farm.live.queue.holders["w2"].held == {1: 2}


@fault(10, "a late result, of an attempt that was given up", promise="it counts: work is never thrown away")
def test_a_result_of_an_attempt_that_was_given_up_counts(farm: Farm) -> None:
    """And the attempt that is under way meanwhile is counted, too."""
    farm.take("w1", 1)
    farm.now += LEASE + 1
    clock.tick(farm.service)
    farm.take("w2", 1)
    assert farm.exchange("w1", 0, {1: b"late"}).header["stored"] == 1
    assert farm.exchange("w2", 0, holding={1: 2}).header["drop"] == [1]
    assert storage_attempts(farm, 1) == (1, 2)


def storage_attempts(farm: Farm, task: int) -> tuple[int, int]:
    """The attempt that ended a task, and how many were begun, as far as is known."""
    row = farm.request * SPAN + task
    [found] = farm.storage.db.execute("SELECT attempt, attempts FROM outcome WHERE id = ?", (row,)).fetchall()
    return tuple(found)


def test_a_worker_that_comes_back_with_its_attempt_loses_it_once(farm: Farm) -> None:
    farm.take("w1", 1)
    for _ in range(5):
        farm.now += LEASE + 1
        clock.tick(farm.service)
        assert farm.errors == []
        farm.exchange("w1", 0, holding=[1])
    assert farm.history == [(1, 1, Kind.LOST, True)]
    assert farm.exchange("w1", 0, {1: b"at last"}).header["stored"] == 1


def test_what_cannot_be_stored_when_a_worker_is_lost_is_not_forgotten(farm: Farm) -> None:
    farm.take("w1", 2)
    farm.now += LEASE + 1
    farm.storage.db.execute("PRAGMA query_only = ON")  # as when the disk is full
    with pytest.raises(StorageError):
        clock.tick(farm.service)
    farm.storage.db.execute("PRAGMA query_only = OFF")
    assert farm.live.queue.size == 10
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert farm.exchange("w2", 2).header["tasks"] == [[1, 2], [2, 2]]


@fault(
    (35, "preemption"),
    "a task is interrupted by the scheduler again and again",
    promise="it runs again at no cost, ten times; then it ends, and says so",
)
def test_interruptions_are_free_but_bounded(storage: Storage) -> None:
    farm = Farm(storage, [b"1", b"2"])
    for attempt in range(1, MAX_INTERRUPTIONS + 2):
        assert farm.errors == []
        assert farm.exchange("w1", 1).header["tasks"] == [[1, attempt]]
        farm.exchange("w1", 0, {1: b"s_rt is over"}, kind=Kind.INTERRUPTED, attempt=attempt)
    assert farm.errors == ["s_rt is over"]


# The breaker


def fail(farm: Farm, tasks: Sequence[int], line: int = 1) -> Reply:
    error = b'ValueError: no\n  File "f.py", line %d, in f\n' % line
    return farm.exchange("w1", 0, dict.fromkeys(tasks, error), kind=Kind.RAISED)


@fault("alike", "the first 20 tasks fail alike", promise="the rest is not run, and says so")
def test_when_the_first_tasks_fail_alike_the_rest_is_not_run(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 100)
    fail(farm, range(1, 20))
    assert len(farm.errors) == 19
    assert fail(farm, [20]).header["stop"]
    assert farm.state == RequestState.ENDED
    assert farm.errors[20:] == ["not run: the first 20 tasks failed alike: ValueError at line 1 of f.py, in f"] * 80
    assert storage.retry(farm.request, {}, failed=False) == 80


def test_reports_that_are_repeated_do_not_count_twice(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 100)
    for _ in range(3):
        fail(farm, range(1, 12))
    assert len(farm.errors) == 11


@pytest.mark.parametrize("options", [{"fail_fast": 0}, {}])
def test_a_success_or_a_user_switches_the_breaker_off(storage: Storage, options: dict[str, Any]) -> None:
    farm = Farm(storage, [b""] * 100, **options)
    if not options:
        farm.exchange("w1", 0, {100: b"result"})
    fail(farm, range(1, 50))
    assert len(farm.errors) == 49


def test_what_was_decided_before_a_restart_is_not_decided_again(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 100)
    farm.exchange("w1", 0, {100: b"result"})
    farm.restart()
    fail(farm, range(1, 50))
    assert len(farm.errors) == 49


@fault("alike", "a restart while the first tasks fail alike", promise="the count goes on")
def test_the_breaker_goes_on_counting_after_a_restart(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 100)
    fail(farm, range(1, 12))
    farm.restart()
    fail(farm, range(12, 20))
    before = farm.state
    fail(farm, [20])
    assert (before, farm.state) == (RequestState.SUBMITTED, RequestState.ENDED)


def test_what_is_tried_again_may_be_stopped_again(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 100)
    fail(farm, range(1, 21))
    with Storage(storage.dbfile) as other:
        other.db.execute("UPDATE outcome SET stored = stored - 10")
        assert other.retry(farm.request, {"lease": LEASE}, failed=False) == 80
    farm.submit(2)
    farm.calls = 0
    farm.restart()
    fail(farm, range(21, 41))
    assert farm.state == RequestState.ENDED
