"""What is known of a request's workers."""

import pytest

from sheepdog.server.decide.workers import Element, Workers, WorkerSeen
from tests.server.decide.lives import array


def make(*names: str, array: int = 1, heard: float = 0.0) -> Workers:
    """Return workers that have called, each from the element of its name."""
    workers = Workers(False, 0.0)
    for name in names:
        workers.add(name, WorkerSeen("node", Element(array, name), heard))
    return workers


def test_a_new_worker_follows_the_one_in_its_element() -> None:
    workers = make("1", "2")
    element = Element(1, "1")
    assert workers.replace("new", element) == ["1"]
    assert workers.lose("1") is not None
    workers.add("new", WorkerSeen("node", element, 0.0))
    assert workers.replace("1", element) == []  # it was believed lost, and calls again: it follows nobody
    assert workers.replace("3", Element(2, "1")) == []


def test_workers_that_do_not_say_where_they_run_follow_nobody() -> None:
    workers = make("")
    assert workers.replace("new", Element(1, "")) == []


def test_an_element_is_lost_with_the_last_worker_in_it() -> None:
    workers = make("1")
    workers.add("2", WorkerSeen("node", Element(1, "1"), 0.0))
    workers.lose("1")
    assert workers.lost == set()
    workers.lose("2")
    assert workers.lost == {(1, "1")}
    assert workers.lose("2") is None
    workers.add("3", WorkerSeen("node", Element(1, "1"), 0.0))
    assert workers.lost == set()


def test_a_worker_that_was_told_to_end_is_not_lost() -> None:
    workers = make("1")
    workers.remove("1")
    assert (workers.known, workers.lost) == ({}, set())


@pytest.mark.parametrize("name", ["1", ""])
def test_why_a_worker_was_refused_is_kept_by_its_element(name: str) -> None:
    workers = Workers(False, 0.0)
    workers.add("w", WorkerSeen("node", Element(1, name), 0.0))
    workers.refuse("w", "another Python")
    assert (workers.known, workers.refused) == ({}, {name or "w": "another Python"})


def test_an_element_that_is_said_to_run_and_keeps_silent_is_lost() -> None:
    workers = make("1")
    running = {Element(1, "1"), Element(1, "2")}
    for asked in (0.0, 30.0, 60.0):
        workers.listen(running, asked, 60.0)
        assert workers.lost == set()
    workers.listen(running, 61.0, 60.0)
    assert workers.lost == {(1, "2")}


def test_a_worker_has_ended_when_the_scheduler_says_so_twice_with_no_word_between() -> None:
    workers = make("1", "2", heard=5.0)
    assert workers.ended(1, {"2"}, 10.0) == []
    workers.known["1"].heard = 12.0
    assert workers.ended(1, {"2"}, 20.0) == []
    assert workers.ended(1, {"1"}, 25.0) == []
    assert workers.ended(1, {"2"}, 30.0) == []  # it was listed meanwhile; now the other one was not
    assert workers.ended(1, {"2"}, 40.0) == ["1"]
    assert workers.ended(2, set(), 40.0) == []  # of another array job


def test_all_have_called_when_each_array_job_has() -> None:
    arrays = {1: array(1, 2), 2: array(2, 2)}
    workers = Workers(False, 0.0)
    for element in ((1, "1"), (1, "2"), (2, "1"), (3, "7")):  # the third is no more
        workers.add(str(element), WorkerSeen("node", Element(*element), 0.0))
        assert not workers.all_called(arrays)
    workers.add("last", WorkerSeen("node", Element(2, "2"), 0.0))
    assert workers.all_called(arrays)
    workers.lose("last")  # it may be started again
    assert not workers.all_called(arrays)


def test_how_long_there_has_been_no_worker() -> None:
    workers = make("1")
    assert workers.alone(10.0) == 0.0
    workers.lose("1")
    assert workers.alone(25.0) == 15.0


def test_workers_that_are_leaving_do_not_stay() -> None:
    workers = make("1", "2", "3")
    workers.known["1"].leaving = "qdel"
    workers.known["2"].level = 1
    assert workers.leaving == ["1"]
    assert [workers.staying(level) for level in (0, 1, 2)] == [2, 1, 0]
