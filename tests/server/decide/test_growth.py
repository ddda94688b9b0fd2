"""When a request gets more workers than it began with."""

from typing import Any

import pytest

from sheepdog.server.decide.growth import ENOUGH, QUEUED, SETTLED, growth
from sheepdog.server.decide.live import LiveRequest
from tests.server.decide.lives import array, call, hear, make_live, says


def grown(live: LiveRequest, now: float = SETTLED) -> int:
    found = growth(live, now)
    assert found is None or (found.first, found.level, found.all) == (True, 0, False)
    return found.workers if found else 0


def at_work(tasks: int, workers: int = 16, **other: Any) -> LiveRequest:
    """All of the first workers have called, and begun with a task."""
    live = make_live(tasks, arrays=(array(workers=workers),), **other)
    hear(live, says(*range(1, workers + 1)))
    live.workers.take()
    for name in range(1, workers + 1):
        call(live, name)
    live.pace.begin(0.0)
    return live


def test_short_tasks_need_no_more() -> None:
    live = at_work(1000)
    live.pace.end([0.001] * 10)
    assert grown(live, 100.0) == 0


def test_as_many_as_the_work_that_is_left_calls_for() -> None:
    live = at_work(1000)
    live.pace.end([1.0, 3.0])
    assert grown(live) == 1000 * 2 / ENOUGH - 16


@pytest.mark.parametrize(("tasks", "most"), [(16, 0), (100, 84), (1_000_000, 984)])
def test_no_more_than_there_are_tasks_and_a_thousand(tasks: int, most: int) -> None:
    live = at_work(tasks)
    live.pace.end([3600.0])
    assert grown(live) == most


def test_the_first_seconds_tell_nothing() -> None:
    """A first task that imports something for a second says nothing of the thousand behind it."""
    live = at_work(10_000)
    live.pace.end([1.0])
    assert grown(live, SETTLED - 0.1) == 0
    live.pace.end([0.001] * 999)
    assert grown(live) == 0


def test_tasks_that_have_not_ended_are_as_long_as_they_have_run() -> None:
    live = at_work(100)
    assert grown(live, 3.0) == 0
    assert grown(live, ENOUGH) == 84


def test_a_few_more_are_not_worth_a_job() -> None:
    live = at_work(160)
    live.pace.end([2.5])
    assert grown(live) == 0
    live.pace.end([3.5])
    assert grown(live) == 8


def test_when_the_first_wait_in_the_queue_the_rest_waits_beside_them() -> None:
    live = make_live(50, arrays=(array(workers=16),))
    hear(live, says(pending=16))
    assert grown(live, QUEUED - 1) == 0
    assert grown(live, QUEUED) == 34
    live.add_array(array(2, workers=34))
    hear(live, says(pending=34), 2)
    assert grown(live, 2 * QUEUED) == 0


def test_who_says_a_number_gets_that() -> None:
    assert grown(at_work(1000, workers=4), 100.0) > 0
    assert grown(at_work(1000, workers=4, said=4), 100.0) == 0


def test_a_site_that_takes_no_more_is_left_alone() -> None:
    live = at_work(1000)
    live.tries.begin(first=True)
    assert grown(live, 100.0) == 0
    live.tries.fail(100.0)
    assert grown(live, 10_000.0) == 0


def test_workers_that_leave_are_not_replaced_by_growth() -> None:
    live = at_work(1000)
    assert grown(live, 100.0) > 0
    call(live, 1, leaving="qdel")
    assert grown(live, 100.0) == 0


def test_workers_that_do_not_last_are_not_made_more() -> None:
    live = at_work(1000)
    live.tries.begin(first=False)
    live.tries.succeed(0.0)
    assert grown(live, 100.0) == 0
    live.tries.begin_anew()
    assert grown(live, 100.0) > 0


def test_what_a_worker_says_of_time_may_be_nonsense() -> None:
    live = at_work(1000)
    live.pace.end([float("nan"), -5.0, 0.0])
    assert grown(live, 100.0) == 0
