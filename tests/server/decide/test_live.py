"""What a request's memory answers: which workers it has, lacks, and why."""

from typing import Any

import pytest

from sheepdog.config.options import Options
from sheepdog.server.decide.live import Herd, Shortage, WorkerSeen
from sheepdog.server.decide.policy import Past, Policy
from sheepdog.server.decide.queue import Queue
from sheepdog.values.model import ArrayJob, JobStatus, Request, RequestState

LEASE = 150.0


def make_herd(tasks: int = 100, arrays: tuple[ArrayJob, ...] = (), **past: Any) -> Herd:
    request = Request(1, "n", RequestState.SUBMITTED, "t", {}, {}, tasks, 0.0, 0.0, 0, False)
    herd = Herd(request, Options.read({"host": "hive"}), Queue([(1, tasks)], LEASE, **past), Policy(), 0.0)
    for array in arrays:
        herd.add_array(array)
    return herd


def array(number: int = 1, workers: int = 4, level: int = 0, **other: Any) -> ArrayJob:
    return ArrayJob(number, "n", "d", workers, level, **{"job": f"job{number}", "urls": ("https://here:1",), **other})


def call(herd: Herd, element: int, number: int = 1, level: int = 0, heard: float = 0.0, **other: Any) -> WorkerSeen:
    seen = WorkerSeen("node", str(element), heard, number, level, **other)
    herd.workers[f"{number}.{element}"] = seen
    herd.elements.add(seen.place)
    return seen


def says(*running: int, pending: int = 0, **other: Any) -> JobStatus:
    return JobStatus(pending, frozenset(map(str, running)), **other)


# Array jobs


def test_an_array_job_that_has_ended_is_not_expected() -> None:
    herd = make_herd(arrays=(array(1, 4, ended=1.0), array(2, 2, level=1)))
    assert (sorted(herd.arrays), herd.size, herd.levels) == ([2], 4, {1: 0, 2: 1})
    herd.end_array(2)
    assert not herd.arrays
    assert herd.levels == {1: 0, 2: 1}  # a worker of it may be late


def test_no_worker_is_expected_of_an_array_job_whose_submission_nobody_saw() -> None:
    herd = make_herd(arrays=(array(1), array(2, job="")))
    assert sorted(herd.arrays) == [1]
    assert herd.levels == {1: 0, 2: 0}


def test_all_have_called_when_each_array_job_has() -> None:
    herd = make_herd(arrays=(array(1, 2), array(2, 2)))
    for number, element in ((1, 1), (1, 2), (2, 1)):
        call(herd, element, number)
        assert not herd.all_called()
    call(herd, 7, 3)  # of an array job that is no more
    assert not herd.all_called()
    call(herd, 2, 2)
    assert herd.all_called()
    herd.dead.add((2, "2"))  # it may be started again
    assert not herd.all_called()


# Workers


def test_all_are_heard_when_the_scheduler_knows_no_other() -> None:
    herd = make_herd(arrays=(array(1), array(2)))
    call(herd, 1)
    herd.statuses[1] = says(1)
    assert not herd.all_heard()  # it has said nothing of the second array job
    herd.statuses[2] = says(3)
    assert not herd.all_heard()
    herd.dead.add((2, "3"))
    assert herd.all_heard()


def test_a_job_is_over_when_all_that_is_said_to_run_is_dead() -> None:
    herd = make_herd(arrays=(array(),))
    assert herd.is_over(1, says())
    assert not herd.is_over(1, says(1, 2))
    herd.dead |= {(1, "1"), (2, "2")}
    assert not herd.is_over(1, says(1, 2))
    assert herd.is_over(1, says(1))
    assert not herd.is_over(1, says(1, pending=1))
    assert not herd.is_over(1, says(1, broken=True))


def test_a_place_that_is_said_to_run_and_stays_quiet_is_dead() -> None:
    herd = make_herd(arrays=(array(),))
    call(herd, 1)
    for asked in (0.0, 30.0, 60.0):
        herd.listen(1, says(1, 2), asked, 60.0)
        assert herd.dead == set()
    herd.listen(1, says(1, 2), 61.0, 60.0)
    assert herd.dead == {(1, "2")}


def test_workers_are_silent_with_leases_and_without() -> None:
    herd = make_herd(arrays=(array(),))
    call(herd, 1)  # it joined, and never asked for tasks
    call(herd, 2)
    herd.queue.take("1.2", 1, 0.0)
    assert herd.silent(LEASE) == []
    assert sorted(herd.silent(LEASE + 1)) == ["1.1", "1.2"]


def test_it_is_calm_while_all_that_run_are_heard() -> None:
    herd = make_herd(arrays=(array(),))
    assert not herd.is_calm(0.0)
    call(herd, 1)
    herd.statuses[1] = says(1)
    assert herd.is_calm(LEASE / 2)
    assert not herd.is_calm(LEASE / 2 + 1)
    herd.statuses[1] = says(1, 2)
    assert not herd.is_calm(0.0)


# What it lacks


def shortage(herd: Herd, now: float = 0.0) -> tuple[int, int, bool] | None:
    found = herd.shortage(now)
    return (found.workers, found.level, found.all) if found else None


def test_there_is_no_shortage_while_workers_may_come() -> None:
    herd = make_herd(arrays=(array(),))
    assert shortage(herd) is None  # nothing is known
    herd.statuses[1] = says(pending=4)
    assert shortage(herd) is None
    herd.statuses[1] = says(1, 2, pending=2)
    assert shortage(herd) is None
    for element in range(1, 5):
        call(herd, element)
    herd.statuses[1] = says(1, 2, 3, 4)
    assert shortage(herd) is None


def test_when_the_array_job_is_no_more_as_many_are_lacking() -> None:
    herd = make_herd(arrays=(array(),))
    herd.end_array(1)
    herd.gone = "it ended"
    assert herd.shortage(0.0) == Shortage(4, 0, True, "it ended")


def test_no_more_workers_than_tasks_are_lacking() -> None:
    herd = make_herd(tasks=2, arrays=(array(),))
    herd.end_array(1)
    assert shortage(herd) == (2, 0, True)


@pytest.mark.parametrize(("there", "lacking"), [(4, None), (3, None), (2, 2), (1, 3)])
def test_a_few_lost_workers_are_no_shortage(there: int, lacking: int | None) -> None:
    herd = make_herd(arrays=(array(),))
    herd.statuses[1] = says(*range(1, there + 1))
    for element in range(1, there + 1):
        call(herd, element)
    assert shortage(herd) == (None if lacking is None else (lacking, 0, False))


def test_workers_that_are_leaving_or_dead_do_not_count() -> None:
    herd = make_herd(arrays=(array(workers=2),))
    herd.statuses[1] = says(1, 2)
    call(herd, 1, leaving="qdel")
    herd.elements.add((1, "2"))
    herd.dead.add((1, "2"))
    assert shortage(herd) == (2, 0, True)


def test_what_a_leaving_worker_holds_may_still_end_well() -> None:
    herd = make_herd(tasks=3, arrays=(array(workers=2),))
    herd.end_array(1)
    call(herd, 1, leaving="qdel")
    herd.queue.take("1.1", 2, 0.0)
    assert shortage(herd) == (1, 0, True)
    herd.queue.take("1.1", 1, 0.0)
    assert shortage(herd) is None


def test_while_it_is_not_clear_there_is_no_shortage() -> None:
    herd = make_herd(arrays=(array(),))
    herd.end_array(1)
    herd.submitting = True
    assert shortage(herd) is None
    herd.submitting = False
    herd.not_before = 5.0
    assert shortage(herd, 4.0) is None
    assert shortage(herd, 5.0)
    herd.missed[2] = 1  # it must be said twice
    assert shortage(herd, 5.0) is None


def test_tasks_that_need_more_lack_workers_that_have_it() -> None:
    herd = make_herd(arrays=(array(),), past={7: Past(1, level=1), 8: Past(1, level=2), 9: Past(1, level=2)})
    assert shortage(herd) == (2, 2, False)
    herd.add_array(array(2, 2, level=2))
    assert shortage(herd) is None
    assert herd.queue.raised == {1: 1, 2: 2}


def test_workers_that_cannot_run_what_is_left_are_none() -> None:
    herd = make_herd(tasks=1, arrays=(array(workers=1),), past={1: Past(1, level=1)})
    herd.statuses[1] = says(1)
    call(herd, 1)
    assert shortage(herd) == (1, 1, True)


def test_a_raised_task_is_lacking_as_soon_as_its_time_has_come() -> None:
    herd = make_herd(arrays=(array(),))
    herd.queue.take("w", 1, 0.0)
    herd.queue.repeat(1, Past(1, level=1), 5.0)
    assert shortage(herd, 4.0) is None
    assert shortage(herd, 5.0) == (1, 1, False)


# What its user hears


def test_the_situation() -> None:
    herd = make_herd(arrays=(array(),))
    assert herd.situation() == ""
    herd.statuses[1] = says(pending=3, reason="no slots")
    assert herd.situation() == "3 workers wait in the queue of hive (array job job1): no slots"
    herd.because = "queue full"
    assert herd.situation() == "3 workers wait in the queue of hive (array job job1): no slots; queue full"
    herd.statuses[1] = says(1, 2)
    assert herd.situation().startswith("2 workers run, but none has reached https://here:1: ")
    herd.joined = True
    assert herd.situation().startswith("2 workers run, but no longer any has reached https://here:1: ")
    herd.dead |= {(1, "1"), (1, "2")}
    assert herd.situation() == ""
    herd.statuses[1] = says(broken=True, reason="Eqw")
    assert herd.situation() == "workers cannot start: Eqw; queue full"
    herd.unanswered = "the scheduler has not answered since 12:00: no"
    assert herd.situation() == herd.unanswered
