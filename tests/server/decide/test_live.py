"""What a request's memory answers: whether its workers say enough themselves."""

from sheepdog.server.decide.workers import Element
from tests.server.decide.lives import LEASE, array, call, hear, lose, make_live, says


def test_an_array_job_that_has_ended_is_not_expected() -> None:
    live = make_live(arrays=(array(1, 4, ended=1.0), array(2, 2, level=1)))
    assert (sorted(live.jobs.there), live.jobs.size, live.jobs.levels) == ([2], 4, {1: 0, 2: 1})
    live.end_array(2, "it ended")
    assert not live.jobs.there
    assert live.reasons.ended == "it ended"
    assert live.jobs.levels == {1: 0, 2: 1}  # a worker of it may be late


def test_no_worker_is_expected_of_an_array_job_whose_submission_nobody_saw() -> None:
    live = make_live(arrays=(array(1), array(2, job="")))
    assert sorted(live.jobs.there) == [1]
    assert live.jobs.levels == {1: 0, 2: 0}


def test_all_are_heard_when_the_scheduler_knows_no_other() -> None:
    live = make_live(arrays=(array(1), array(2)))
    call(live, 1)
    hear(live, says(1))
    assert not live.all_heard()  # it has said nothing of the second array job
    hear(live, says(3), 2)
    assert not live.all_heard()
    lose(live, 3, number=2)
    assert live.all_heard()


def test_elements_that_keep_silent_are_lost_once_any_worker_has_joined() -> None:
    live = make_live(arrays=(array(),))
    for asked in (0.0, 61.0):
        live.hear(1, says(1, 2), asked, 60.0)
    assert live.running == {(1, "1"), (1, "2")}  # its user is to hear that none can reach the server
    live.workers.take()
    call(live, 1)
    for asked in (61.0, 122.0):
        live.hear(1, says(1, 2), asked, 60.0)
    assert live.running == {Element(1, "1")}


def test_workers_are_silent_with_leases_and_without() -> None:
    live = make_live(arrays=(array(),))
    call(live, 1)  # it joined, and never asked for tasks
    call(live, 2)
    live.queue.take("1.2", 1, 0.0)
    assert live.silent(LEASE) == []
    assert sorted(live.silent(LEASE + 1)) == ["1.1", "1.2"]


def test_it_is_calm_while_all_that_run_are_heard() -> None:
    live = make_live(arrays=(array(),))
    assert not live.is_calm(0.0)
    call(live, 1)
    hear(live, says(1))
    assert live.is_calm(LEASE / 2)
    assert not live.is_calm(LEASE / 2 + 1)
    hear(live, says())
    assert not live.is_calm(0.0)  # it must be said twice
    hear(live, says(1, 2))
    assert not live.is_calm(0.0)
