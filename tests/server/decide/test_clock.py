"""What is decided when nobody calls, over a real store and a clock that stands until it is moved."""

from dataclasses import replace

from sheepdog.config.options import Options
from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.clock import UNREACHED
from sheepdog.server.decide.outcomes import LASTING
from sheepdog.server.decide.service import Service
from sheepdog.server.decide.tries import FIRST_PAUSE
from sheepdog.server.decide.verdict import UNREACHABLE
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, JobStatus, Kind, RequestState
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.server.decide.farm import GONE, LEASE, Farm, gone_after_work, submit_again

# What the scheduler says


@fault(
    (36, "qdel all"),
    "an array job that the scheduler no longer has",
    promise="said twice, with no word from a worker: the tasks end with its reason",
)
def test_a_job_that_is_gone_ends_its_tasks_with_the_reason(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 10, resubmissions=0)
    farm.heed(JobStatus(running=frozenset({"1", "2"})))
    farm.exchange("w1", 1)
    farm.heed(GONE)
    farm.exchange("w1", 0, holding=[1])
    farm.heed(GONE)
    assert farm.errors == []  # the scheduler says so, but the worker was heard in between
    farm.heed(GONE)
    assert len(farm.errors) == 10
    assert farm.errors[0].startswith("not run: its workers have ended; the last time the array job 12 has ended")
    assert GONE.reason in farm.errors[0]
    assert "in this machine:dir" in farm.errors[0]
    assert farm.storage.requests(RequestState.NEW, RequestState.SUBMITTED) == []


def test_a_job_that_was_never_listed_is_given_a_second_chance(farm: Farm) -> None:
    farm.heed(GONE)
    assert farm.errors == []
    farm.heed(JobStatus(pending=1))
    farm.heed(JobStatus(running=frozenset({"1"})))
    assert farm.errors == []


def test_a_job_that_is_never_listed_ends(farm: Farm) -> None:
    farm.heed(GONE, times=2)
    assert len(farm.errors) == 10


def test_a_worker_that_joined_and_died_before_the_job_was_listed_does_not_keep_the_request(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 10, resubmissions=0)
    farm.join("w1")
    farm.heed(GONE, times=2)
    assert len(farm.errors) == 10


def test_a_job_whose_workers_came_after_the_question_goes_on(farm: Farm) -> None:
    asked = farm.now
    clock.heed(farm.service, farm.request, {1: JobStatus(pending=1)}, asked)
    farm.now += 5
    farm.exchange("w1", 1)
    clock.heed(farm.service, farm.request, {1: GONE}, asked)
    assert farm.errors == []
    assert farm.take("w2", 1) == [2]


@fault(
    (38, "Eqw"),
    "an array job in error, whole or in part",
    promise="the user is told why; if nothing else is left, the tasks end with it",
)
def test_a_broken_job_tells_its_user_and_ends_if_nothing_else_is_left(farm: Farm) -> None:
    broken = "the array job 12 is in error (Eqw): no such directory"
    farm.heed(JobStatus(running=frozenset({"1"}), broken=True, reason=broken))
    assert broken in farm.note
    assert farm.errors == []
    farm.heed(JobStatus(broken=True, reason=broken))
    assert farm.errors == [f"not run: {broken}"] * 10


@fault(
    (36, "qdel one"),
    "an element that the scheduler no longer lists",
    promise="its tasks go to others at once, before the lease ends",
)
def test_the_tasks_of_an_element_that_ended_are_ready_at_once(farm: Farm) -> None:
    farm.exchange("w1", 2)
    farm.exchange("w2", 1)
    farm.heed(JobStatus(running=frozenset({"2"})), times=2)
    assert sorted(farm.exchange("w2", 2, holding=[3]).header["tasks"]) == [[1, 2], [2, 2]]


@fault(
    6,
    "a task that kills its worker again and again",
    promise="it runs alone, then is given up as such; the others are done",
)
def test_a_task_that_loses_three_workers_is_given_up_alone(farm: Farm) -> None:
    """The tasks that were leased along with it at first are done by others."""
    for attempt in (1, 2, 3):
        reply = farm.exchange(f"w{attempt}", 1000)
        assert [1, attempt] in reply.header["tasks"]
        assert (len(reply.header["tasks"]) == 1) == (attempt == 3)
        farm.now += 200
        clock.tick(farm.service)
    [error] = farm.errors
    assert error.startswith("its worker was lost 3 times, the last one on node1 (nothing was heard of it for 150 s): ")
    assert 1 not in [index for index, _ in farm.exchange("w4", 1000).header["tasks"]]


def test_a_request_that_is_removed_while_its_tasks_are_lost(farm: Farm) -> None:
    for attempt in (1, 2, 3):
        farm.exchange(f"w{attempt}", 1000)
        if attempt == 3:
            farm.storage.remove_request(farm.request)
        farm.now += 200
        clock.tick(farm.service)
    assert farm.service.live == {}


@fault(
    "no workers",
    "workers that run and cannot reach the server",
    promise="the user is told after a minute, with the address that they try",
)
def test_workers_that_run_and_reach_nothing_make_a_note_that_goes_when_one_does(farm: Farm) -> None:
    running = JobStatus(running=frozenset({"1", "2"}))
    farm.heed(running)
    assert farm.note == ""
    farm.now += UNREACHED
    farm.heed(running)
    clock.tick(farm.service)
    assert "2 workers run, but none has reached https://here:1" in farm.note
    farm.join("w1")
    assert farm.note == ""


def test_what_is_left_of_a_request_is_told_until_it_is_cleared(farm: Farm) -> None:
    farm.heed(JobStatus(pending=1, broken=True, reason="Eqw"))
    farm.heed(JobStatus(broken=True, reason="Eqw"))
    for _ in range(2):
        [(request, [array], waiting)] = arrays.left_over(farm.service)
        assert (request.id, request.gave_up, array.number, waiting) == (farm.request, True, 1, True)
    arrays.clear(farm.service, farm.request)
    assert arrays.left_over(farm.service) == []
    assert farm.state == RequestState.CLOSED


# Workers again


def test_workers_are_submitted_again_while_tasks_remain(farm: Farm) -> None:
    farm.take("w1", 1)
    gone_after_work(farm)
    [wanted] = clock.wanted(farm.service)
    assert (wanted.request.id, wanted.workers, wanted.level) == (farm.request, 2, 0)
    assert "the array job 12 has ended before its tasks: 2 workers ended with exit status 1" in wanted.why
    assert "2 workers are submitted again (1 of 3 times in a row)" in farm.note
    assert clock.wanted(farm.service) == []  # they are being submitted
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d2", 2))
    assert (array.number, clock.watched(farm.service)) == (2, [])
    assert arrays.submitted(farm.service, farm.request, replace(array, job="13"))
    [watched] = clock.watched(farm.service)
    assert [each.job for each in watched.arrays] == ["13"]
    assert farm.take("w1", 1) == [1]
    assert farm.note == ""
    assert clock.wanted(farm.service) == []


def test_what_is_not_submitted_again_does_not_come_by_growth(farm: Farm) -> None:
    farm.live.tries.limit = 0
    farm.take("w1", 1)
    gone_after_work(farm)
    farm.now += 60.0
    assert clock.wanted(farm.service) == []


@fault(
    "qdel all",
    "submissions again and again without an outcome",
    promise="they are bounded; then the tasks end with the reason",
)
def test_the_budget_is_for_submissions_that_are_of_no_use_for_long(farm: Farm) -> None:
    farm.take("w1", 2)
    gone_after_work(farm)
    assert submit_again(farm)
    assert submit_again(farm)
    farm.exchange("soon", 0, {1: b"result"})
    assert farm.live.tries.fruitless == 2
    farm.now += LASTING
    farm.exchange("late", 0, {1: b"result"})
    assert farm.live.tries.fruitless == 2  # it was late in another sense, too
    farm.exchange("late", 0, {2: b"result"})
    assert farm.live.tries.fruitless == 0
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert [submit_again(farm) for _ in range(4)] == [True, True, True, False]
    assert len(farm.errors) == 8
    assert farm.errors[0].startswith(
        "not run: its workers have ended 4 times in a row; the last time the array job job6 has ended"
    )


def test_a_refused_submission_costs_a_try_and_a_broken_line_none(farm: Farm) -> None:
    farm.take("w1", 1)
    gone_after_work(farm)
    for refused, left in ((False, 0), (True, 1), (False, 1), (True, 2)):
        [_] = clock.wanted(farm.service)
        array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
        arrays.not_submitted(farm.service, farm.request, array.number, "no route", refused)
        assert farm.note == "workers cannot be submitted again: no route; trying on"
        assert farm.live.tries.fruitless == left
        assert clock.wanted(farm.service) == []  # not at once
        farm.now += 8 * FIRST_PAUSE
    [_] = clock.wanted(farm.service)


def test_the_pauses_grow_until_one_succeeds(farm: Farm) -> None:
    farm.take("w1", 1)
    gone_after_work(farm)
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        [_] = clock.wanted(farm.service)
        array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
        arrays.not_submitted(farm.service, farm.request, array.number, "no route", False)
        assert farm.live.tries.not_before == farm.now + pause
        farm.now += pause
    assert submit_again(farm)
    assert farm.live.tries.failures == 0


def test_a_server_that_died_while_it_submitted_submits_again(farm: Farm) -> None:
    farm.take("w1", 1)
    gone_after_work(farm)
    [_] = clock.wanted(farm.service)
    arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    farm.restart()
    clock.tick(farm.service)
    assert [wanted.workers for wanted in clock.wanted(farm.service)] == [2]


def test_workers_that_never_called_are_not_submitted_again(farm: Farm) -> None:
    farm.heed(GONE, times=2)
    assert clock.wanted(farm.service) == []
    assert "no worker has called" in farm.errors[0]


def test_a_request_that_ended_while_its_workers_were_submitted(farm: Farm) -> None:
    farm.take("w1", 1)
    gone_after_work(farm)
    [_] = clock.wanted(farm.service)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    farm.storage.end_pending(farm.request, Kind.CANCELLED, "cancelled")
    clock.tick(farm.service)
    assert not arrays.submitted(farm.service, farm.request, replace(array, job="13"))
    arrays.not_submitted(farm.service, farm.request, array.number, "no", True)


# Workers with more


def test_a_task_that_needs_more_waits_for_workers_that_have_it(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 3, workers=1, on_oom="2x")
    farm.take("w1", 1)
    assert farm.exchange("w1", 1, {1: b"out of memory"}, kind=Kind.MEMORY).header["tasks"] == [[2, 1]]
    [wanted] = clock.wanted(farm.service)
    assert (wanted.workers, wanted.level) == (1, 1)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 1, 1))
    assert farm.exchange("w1", 3, holding=[2]).header["tasks"] == [[3, 1]]
    reply = farm.exchange("raised", 1, array=array.number)  # it calls before its submission has returned
    assert reply.header["tasks"] == [[1, 2]]
    arrays.submitted(farm.service, farm.request, replace(array, job="13"))
    assert clock.wanted(farm.service) == []


def test_what_a_task_needs_is_known_after_a_restart(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 3, workers=1, on_oom="2x")
    farm.take("w1", 1)
    farm.exchange("w1", 0, {1: b"out of memory"}, kind=Kind.MEMORY)
    farm.submit(1, level=1)
    farm.restart()
    farm.now += LEASE + 1
    clock.tick(farm.service)  # nothing is doubtful for ever
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert farm.take("w1", 1) == [2]
    assert farm.take("w1", 1, [2]) == [3]
    assert farm.exchange("raised", 1, array=2).header["tasks"] == [[1, 3]]


def test_a_request_whose_last_tasks_nobody_can_run_ends(storage: Storage) -> None:
    """A worker that has not enough waits, and would do so for ever."""
    farm = Farm(storage, [b"1"], workers=1, on_oom="2x", resubmissions=0)
    farm.take("w1", 1)
    farm.exchange("w1", 1, {1: b"out of memory"}, kind=Kind.MEMORY)
    clock.tick(farm.service)
    assert submit_again(farm)  # those with more are the first of their kind: that repeats nothing
    [error] = farm.errors
    assert "tasks need more than their workers had" in error


# What its user hears


def test_a_note_goes_when_a_worker_is_heard_again(farm: Farm) -> None:
    farm.take("w1", 1)
    farm.heed(JobStatus(running=frozenset({"1"})))
    farm.now += LEASE + 1
    clock.tick(farm.service)
    farm.now += UNREACHED + 1
    farm.heed(JobStatus(running=frozenset({"2"})))
    clock.tick(farm.service)
    assert "no longer any has reached https://here:1" in farm.note
    farm.exchange("w1", 0, holding=[1])
    assert farm.note == ""


def test_a_scheduler_that_does_not_answer_is_named(farm: Farm) -> None:
    clock.unanswered(farm.service, farm.request, "ignored: nobody knows the request yet")
    clock.tick(farm.service)
    clock.unanswered(farm.service, farm.request, "no route to host")
    clock.unanswered(farm.service, farm.request, "later")
    farm.now += UNREACHED + 1
    clock.tick(farm.service)
    assert farm.note.startswith("the scheduler has not answered since ")
    assert farm.note.endswith(": no route to host")
    farm.heed(JobStatus(pending=2))
    clock.puzzle(farm.service, farm.request, "no free slots")
    clock.tick(farm.service)
    assert farm.note == "2 workers wait in the queue of this machine (array job 12): no free slots"


@fault(
    "no workers",
    "workers that run and cannot reach the server for ten minutes",
    promise="the tasks end with an error that names the address",
)
def test_workers_that_run_and_reach_nothing_for_long_end_the_request(farm: Farm) -> None:
    running = JobStatus(running=frozenset({"1", "2"}))
    farm.heed(running)
    farm.now += UNREACHABLE - 30
    farm.heed(running)
    clock.tick(farm.service)
    assert farm.errors == []
    farm.heed(running)
    assert farm.errors[0].startswith("not run: for 600 s 2 workers run, but none has reached https://here:1")


def test_a_request_whose_maker_ended_before_it_was_submitted(storage: Storage) -> None:
    options = {"lease": LEASE, "maker": {"pid": 7}}
    request = storage.new_request(b"", b"", [b""], form=form(), options=options)
    planned = storage.new_array(request, ArrayJob(0, "n", "d", 1))
    service = Service(storage, lambda: 0.0)
    assert arrays.unsubmitted(service) == [(storage.get_request(request), Options.read(options), (planned,))]
    arrays.abandon(service, request)
    assert storage.get_request(request).state == RequestState.ENDED
    assert arrays.unsubmitted(service) == []
    arrays.abandon(service, request)
    arrays.abandon(service, 4711)


def test_an_array_job_that_was_told_another_address(farm: Farm) -> None:
    clock.tick(farm.service)
    [watched] = clock.watched(farm.service)
    arrays.moved(farm.service, farm.request, replace(watched.arrays[0], urls=("https://here:2",)))
    [watched] = clock.watched(farm.service)
    assert [array.urls for array in watched.arrays] == [("https://here:2",)]
    assert farm.storage.arrays(farm.request)[0].urls == ("https://here:2",)
