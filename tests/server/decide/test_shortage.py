"""What workers a request lacks."""

import pytest

from sheepdog.server.decide.live import LiveRequest
from sheepdog.server.decide.policy import Past
from sheepdog.server.decide.shortage import Shortage, shortage
from tests.server.decide.lives import array, call, hear, lose, make_live, says


def lacking(live: LiveRequest, now: float = 0.0) -> tuple[int, int, bool] | None:
    found = shortage(live, now)
    return (found.workers, found.level, found.all) if found else None


def test_there_is_no_shortage_while_workers_may_come() -> None:
    live = make_live(arrays=(array(),))
    assert lacking(live) is None  # nothing is known
    hear(live, says(pending=4))
    assert lacking(live) is None
    hear(live, says(1, 2, pending=2))
    assert lacking(live) is None
    for name in range(1, 5):
        call(live, name)
    hear(live, says(1, 2, 3, 4))
    assert lacking(live) is None


def test_when_the_array_job_is_no_more_as_many_are_lacking() -> None:
    live = make_live(arrays=(array(),))
    live.end_array(1, "it ended")
    assert shortage(live, 0.0) == Shortage(4, 0, True, "it ended")


def test_no_more_workers_than_tasks_are_lacking() -> None:
    live = make_live(tasks=2, arrays=(array(),))
    live.end_array(1, "")
    assert lacking(live) == (2, 0, True)


@pytest.mark.parametrize(("there", "expected"), [(4, None), (3, None), (2, 2), (1, 3)])
def test_a_few_lost_workers_are_no_shortage(there: int, expected: int | None) -> None:
    live = make_live(arrays=(array(),))
    hear(live, says(*range(1, there + 1)))
    for name in range(1, there + 1):
        call(live, name)
    assert lacking(live) == (None if expected is None else (expected, 0, False))


def test_workers_that_are_leaving_or_lost_do_not_count() -> None:
    live = make_live(arrays=(array(workers=2),))
    hear(live, says(1, 2))
    call(live, 1, leaving="qdel")
    lose(live, 2)
    assert lacking(live) == (2, 0, True)


def test_what_a_leaving_worker_holds_may_still_end_well() -> None:
    live = make_live(tasks=3, arrays=(array(workers=2),))
    live.end_array(1, "")
    call(live, 1, leaving="qdel")
    live.queue.take("1.1", 2, 0.0)
    assert lacking(live) == (1, 0, True)
    live.queue.take("1.1", 1, 0.0)
    assert lacking(live) is None


def test_while_it_is_not_clear_there_is_no_shortage() -> None:
    live = make_live(arrays=(array(), array(2)))
    live.end_array(1, "")
    live.end_array(2, "")
    live.tries.begin(first=False)
    assert lacking(live) is None
    live.tries.fail(0.0)
    assert lacking(live) is None
    assert lacking(live, live.tries.not_before)
    live.add_array(array(2))
    hear(live, says(), 2)  # it must be said twice
    assert lacking(live, live.tries.not_before) is None


def test_tasks_that_need_more_lack_workers_that_have_it() -> None:
    live = make_live(arrays=(array(),), past={7: Past(1, level=1), 8: Past(1, level=2), 9: Past(1, level=2)})
    assert lacking(live) == (2, 2, False)
    live.add_array(array(2, 2, level=2))
    assert lacking(live) is None
    assert live.queue.raised == {1: 1, 2: 2}


def test_workers_that_cannot_run_what_is_left_are_none() -> None:
    live = make_live(tasks=1, arrays=(array(workers=1),), past={1: Past(1, level=1)})
    hear(live, says(1))
    call(live, 1)
    assert lacking(live) == (1, 1, True)


def test_a_raised_task_is_lacking_as_soon_as_its_time_has_come() -> None:
    live = make_live(arrays=(array(),))
    live.queue.take("w", 1, 0.0)
    live.queue.repeat(1, Past(1, level=1), 5.0)
    live.queue.wake(4.0)
    assert lacking(live, 4.0) is None
    live.queue.wake(5.0)
    assert lacking(live, 5.0) == (1, 1, False)


def test_a_retry_with_fewer_workers_lacks_no_more_than_those() -> None:
    live = make_live(arrays=(array(), array(2, workers=2)), said=2)
    live.end_array(1, "cancelled")
    assert lacking(live) is None
    live.end_array(2, "it ended")
    assert lacking(live) == (2, 0, True)
