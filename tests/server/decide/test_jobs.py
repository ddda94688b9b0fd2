"""What is known of a request's array jobs."""

from sheepdog.server.decide.jobs import ArrayJobs
from sheepdog.server.decide.workers import Element
from tests.server.decide.lives import array, says


def make(*numbers: int) -> ArrayJobs:
    jobs = ArrayJobs()
    for number in numbers:
        jobs.add(array(number), expected=True)
    return jobs


def test_an_array_job_is_no_more_when_the_scheduler_says_so_twice_and_no_worker_is_of_it() -> None:
    jobs = make(1, 2)
    jobs.hear(1, says(), ())
    assert (jobs.ended(()), jobs.in_doubt) == (None, True)
    jobs.hear(1, says(pending=1), ())
    assert not jobs.in_doubt
    for _ in range(2):
        jobs.hear(1, says(), ())
    assert (jobs.ended({1}), jobs.ended({2})) == (None, 1)
    jobs.end(1)
    assert (jobs.ended(()), jobs.in_doubt, sorted(jobs.there)) == (None, False, [2])


def test_it_is_over_when_all_that_is_said_to_run_is_lost() -> None:
    jobs = make(1)
    lost = {Element(1, "1"), Element(2, "1")}
    for status, over in (
        (says(), True),
        (says(1, 2), False),
        (says(1), True),
        (says(1, pending=1), False),
        (says(1, broken=True), False),
    ):
        jobs.hear(1, status, lost)
        assert jobs.in_doubt is over, status


def test_what_the_scheduler_says_of_all_of_them() -> None:
    jobs = make(1, 2)
    assert (jobs.pending, jobs.running, jobs.held, jobs.is_broken, jobs.broken) == (0, set(), False, False, "")
    jobs.hear(1, says(1, pending=2, held=True), ())
    jobs.hear(2, says(1, pending=1, broken=True, reason="Eqw"), ())
    assert (jobs.pending, jobs.running) == (3, {(1, "1"), (2, "1")})
    assert (jobs.held, jobs.is_broken, jobs.broken) == (True, True, "Eqw")


def test_the_level_of_one_that_is_being_submitted_is_known() -> None:
    jobs = make(1)
    jobs.plan(array(2, level=1))
    assert (jobs.levels, sorted(jobs.there)) == ({1: 0, 2: 1}, [1])
    jobs.forget_plan(2)
    assert jobs.levels == {1: 0}


def test_the_directory_is_the_latest_ones_and_the_size_the_largest_ones() -> None:
    jobs = ArrayJobs()
    jobs.add(array(1, 8), expected=False)
    jobs.add(array(2, 3), expected=True)
    assert (jobs.size, jobs.directory, sorted(jobs.there)) == (8, "d", [2])
