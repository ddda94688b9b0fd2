"""Open requests: their tasks come and go while workers wait for them. The store and the server's decisions."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sheepdog.errors import RequestNotFound
from sheepdog.server.decide import clock, exchange
from sheepdog.server.decide.queue import Queue
from sheepdog.server.decide.service import AHEAD, Service
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, Kind, Outcome, RequestState
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.server.decide.farm import LEASE, Farm, gone_after_work, submit_again


class OpenFarm(Farm):
    """A farm whose request is open; its maker has a connection of its own."""

    def __init__(self, storage: Storage, **options: Any) -> None:
        super().__init__(storage, [], open=True, **options)
        self.maker = Storage(storage.dbfile)

    def add(self, count: int) -> int:
        return self.maker.add_tasks(self.request, [b"args"] * count)

    def take_back(self, *tasks: int) -> None:
        self.maker.store_outcomes(self.request, [Outcome(task=task, kind=Kind.CANCELLED, value=b"") for task in tasks])

    def close(self) -> None:
        self.maker.close_request(self.request)


@pytest.fixture
def farm(storage: Storage) -> Iterator[OpenFarm]:
    """An open request without tasks, and two workers that have joined."""
    farm = OpenFarm(storage, idle_time=100.0)
    for worker in ("w1", "w2"):
        farm.join(worker)
    yield farm
    farm.maker.close()


# --- the store


def test_tasks_are_added_until_it_is_closed(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"1"], open=True)
    assert storage.get_request(request).open
    assert storage.add_tasks(request, [b"2", b"3"]) == 2
    assert storage.add_tasks(request, [b"4"]) == 4
    assert storage.count_tasks(request) == 4
    assert [blob for _, blob in storage.read_tasks(request, [1, 2, 3, 4], 100)] == [b"1", b"2", b"3", b"4"]
    storage.close_request(request)
    with pytest.raises(RequestNotFound, match="takes no more tasks: it has been closed"):
        storage.add_tasks(request, [b"5"])
    assert storage.count_tasks(request) == 4


def test_tasks_of_one_commit_are_added_all_or_none(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [], open=True)
    with pytest.raises(Exception, match="binding"):
        storage.add_tasks(request, [b"1", object()])  # type: ignore[list-item]
    assert storage.count_tasks(request) == 0


def test_it_ends_when_it_is_closed_and_all_tasks_have_ended(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"1"], open=True)
    storage.store_outcomes(request, [Outcome(task=1, kind=Kind.RESULT, value=b"")])
    assert not storage.progress(request).finished
    storage.add_tasks(request, [b"2"])
    storage.close_request(request)
    assert not storage.progress(request).finished
    storage.store_outcomes(request, [Outcome(task=2, kind=Kind.RESULT, value=b"")])
    assert storage.progress(request).finished
    assert storage.get_request(request).state == RequestState.ENDED


def test_closed_without_tasks(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [], open=True)
    assert storage.get_request(request).state == RequestState.NEW
    storage.close_request(request)
    storage.close_request(request)
    assert storage.progress(request).finished


def test_outcomes_of_ranges(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b""] * 9, open=True)
    storage.store_outcomes(request, [Outcome(task=task, kind=Kind.RESULT, value=b"%d" % task) for task in (2, 3, 5, 8)])
    found = storage.outcomes(request, [(1, 3), (5, 7)])
    assert [(outcome.task, outcome.value) for outcome in found] == [(2, b"2"), (3, b"3"), (5, b"5")]
    assert storage.ended_among(request, [(1, 2), (8, 9)]) == [2, 8]


# --- the queue


def test_added_tasks_are_taken_after_the_others() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.extend(3, 4)
    assert queue.ranges == [(1, 4)]
    assert [index for index, _ in queue.take("w", 3, 0.0)] == [1, 2, 3]
    queue.extend(5, 5)
    assert sorted(queue.ranges) == [(1, 1), (2, 2), (3, 3), (4, 5)]
    assert queue.size == 5


# --- calls


def test_a_call_without_a_task_is_held(farm: OpenFarm) -> None:
    """The worker hears of a task as soon as there is one; nothing else goes to and fro."""
    reply = farm.exchange("w1", 5)
    assert reply.hold > 0
    assert reply.header["tasks"] == []
    assert exchange.ask_again(farm.service, farm.request, "w1", 5).header["tasks"] == []
    farm.add(3)
    later = exchange.ask_again(farm.service, farm.request, "w1", 5)
    assert later.header["tasks"] == [[1, 1], [2, 1]]  # a share: there is another worker
    assert later.blobs == [b"args"] * 2


def test_a_worker_that_holds_tasks_is_not_kept(farm: OpenFarm) -> None:
    farm.add(1)
    assert farm.take("w1", 1) == [1]
    reply = farm.exchange("w1", 1, holding=[1])
    assert not reply.hold
    assert reply.header["wait"] == 1.0


def test_what_was_taken_back_is_not_leased(farm: OpenFarm) -> None:
    farm.add(4)
    farm.take_back(1, 3)
    assert farm.take("w1", 4) == [2]
    assert farm.take("w2", 4) == [4]


def test_a_worker_is_told_to_drop_what_was_taken_back(farm: OpenFarm) -> None:
    farm.add(1)
    assert farm.take("w1", 1) == [1]
    farm.take_back(1)
    assert farm.exchange("w1", 0, holding=[1]).header["drop"] == [1]


def test_ready(farm: OpenFarm) -> None:
    """How many calls that wait may be answered."""
    assert farm.service.ready() == {farm.request: 0}
    farm.add(3)
    farm.service.look_again()
    assert farm.service.ready() == {farm.request: 3}
    farm.close()
    farm.service.look_again()
    assert farm.service.ready() == {farm.request: 3}


def test_workers_stay_until_they_have_been_idle_for_long(farm: OpenFarm) -> None:
    farm.add(1)
    assert farm.take("w1", 1) == [1]
    farm.now += 99
    assert "stop" not in farm.exchange("w1", 1, {1: b"result"}).header
    farm.now += 2
    assert farm.exchange("w1", 1).header.get("stop")


def test_workers_end_with_the_last_task_of_a_closed_request(farm: OpenFarm) -> None:
    farm.add(1)
    assert farm.take("w1", 1) == [1]
    farm.close()
    assert farm.exchange("w1", 1, {1: b"result"}).header.get("stop")
    assert farm.exchange("w2", 1).status == 410
    assert farm.state == RequestState.ENDED


def test_after_a_restart_of_the_server(farm: OpenFarm) -> None:
    """What was leased waits for the workers to name it, and so does what came later: it may not begin before."""
    farm.add(2)
    assert farm.take("w1", 1) == [1]
    farm.restart()
    farm.add(1)
    assert farm.take("w2", 5) == []
    farm.exchange("w1", 0, holding=[1])
    assert farm.take("w2", 5) == [2]


@fault(
    3,
    "a server dies, or its machine loses power, that had sent calls out and not yet stored how far",
    promise="the next one waits until the workers have named what they hold: no call begins twice",
)
def test_more_may_have_been_leased_than_is_stored(farm: OpenFarm) -> None:
    farm.add(5)
    assert farm.take("w1", 1) == [1]
    assert farm.exchange("w1", 1, {1: b"result"}).header["tasks"] == [[2, 1]]
    assert farm.take("w2", 1) == [3]
    assert farm.storage.leased(farm.request) == 1
    farm.restart()
    assert farm.take("w2", 1) == []
    farm.maker.end_pending(farm.request, Kind.CANCELLED, "cancelled by its user", [5])
    farm.exchange("w1", 0, holding=[2])
    assert farm.take("w2", 1, holding=[3]) == []
    assert farm.exchange("w2", 1, {3: b"result"}).header["tasks"] == [[4, 2]]  # it may have been begun
    assert [index for index, *_ in farm.history] == [4]
    assert [each.attempts for each in farm.storage.outcomes(farm.request, [(5, 5)])] == [1]


def test_how_much_more_is_bounded(farm: OpenFarm) -> None:
    """And the first is stored at once: nobody waits for workers that there have not been."""
    farm.add(2 * AHEAD + 2)
    farm.restart()
    assert farm.take("w1", 1) == [1]
    for index in range(1, 2 * AHEAD):
        assert 0 < farm.storage.leased(farm.request) >= index - AHEAD
        assert farm.exchange("w1", 1, {index: b"result"}).header["tasks"] == [[index + 1, 1]]
    assert farm.storage.leased(farm.request) == AHEAD + 2
    farm.service.mark()
    assert farm.storage.leased(farm.request) == 2 * AHEAD


def test_a_call_that_is_taken_back_may_have_begun(farm: OpenFarm) -> None:
    """Its maker could not know: how far calls have been leased was not stored yet."""
    farm.add(4)
    farm.take("w1", 1)
    assert farm.exchange("w1", 1, {1: b"result"}).header["tasks"] == [[2, 1]]
    farm.maker.end_pending(farm.request, Kind.CANCELLED, "cancelled by its user", [2, 3])
    farm.service.look_again()
    assert [(each.task, each.attempts) for each in farm.storage.outcomes(farm.request, [(2, 3)])] == [(2, 1), (3, 0)]
    assert farm.exchange("w1", 1, holding=[2]).header["drop"] == [2]
    assert farm.storage.progress(farm.request).cancelled == 2


def test_calls_that_end_with_their_request_may_have_begun(farm: OpenFarm) -> None:
    farm.add(3)
    farm.take("w1", 1)
    farm.exchange("w1", 1, {1: b"result"})
    farm.service.give_up(farm.live, "no workers")
    assert [(each.task, each.attempts) for each in farm.storage.outcomes(farm.request, [(2, 3)])] == [(2, 1), (3, 0)]


# --- its array job


def test_it_is_submitted_while_the_server_looks_for_tasks(storage: Storage) -> None:
    """Whoever rings for the first tasks may come between the submission and the server's next look at it."""
    request = storage.new_request(b"f", b"", [], form=form(), open=True)
    service = Service(storage, lambda: 1000.0)
    live = service.find(request)
    assert live is not None
    with Storage(storage.dbfile) as maker:
        array = maker.new_array(request, ArrayJob(0, "name", "dir", 2, 0))
        assert maker.set_submitted(request, replace(array, job="12"))
        maker.add_tasks(request, [b"args"])
    service.look_again()
    assert [array.job for array in live.jobs.there.values()] == ["12"]
    clock.tick(service)
    assert storage.progress(request).ended == 0


# --- workers that have ended


def end_by_idling(farm: OpenFarm) -> None:
    farm.now += 101
    for worker in ("w1", "w2"):
        assert farm.exchange(worker, 1).header.get("stop")
    gone_after_work(farm)


def test_no_workers_are_wanted_without_tasks(farm: OpenFarm) -> None:
    end_by_idling(farm)
    clock.tick(farm.service)
    assert clock.wanted(farm.service) == []
    assert farm.state == RequestState.SUBMITTED


def test_as_many_workers_as_at_first_for_the_next_task(farm: OpenFarm) -> None:
    end_by_idling(farm)
    farm.add(1)
    clock.tick(farm.service)
    [wanted] = clock.wanted(farm.service)
    assert wanted.workers == 2


def test_to_end_idle_is_no_failure(farm: OpenFarm) -> None:
    """However often: the count begins anew with tasks that come to an empty queue."""
    for _ in range(6):
        if farm.live.workers.known:
            end_by_idling(farm)
        farm.add(1)
        clock.tick(farm.service)
        assert submit_again(farm)
        farm.take_back(farm.storage.count_tasks(farm.request))
        clock.tick(farm.service)


def test_when_it_is_given_up_it_takes_no_more_tasks(farm: OpenFarm) -> None:
    farm.add(1)
    assert farm.take("w1", 1) == [1]
    farm.service.give_up(farm.live, "not run: there are no workers")
    assert farm.errors == ["not run: there are no workers"]
    with pytest.raises(RequestNotFound, match="takes no more tasks: not run: there are no workers"):
        farm.add(1)
    assert farm.state == RequestState.ENDED


def test_fail_fast_is_for_requests_whose_tasks_are_known(storage: Storage) -> None:
    farm = Farm(storage, [b"args"] * 100, open=True, fail_fast=20)
    farm.join("w1")
    for _ in range(40):
        tasks = farm.take("w1", 1)
        farm.exchange("w1", 0, dict.fromkeys(tasks, b"ValueError: no"), kind=Kind.RAISED)
    assert farm.storage.progress(farm.request).failed == 40


# --- makers that have died


def test_a_request_that_nobody_adds_to_is_closed(farm: OpenFarm) -> None:
    farm.add(1)
    assert farm.take("w1", 1) == [1]
    assert [request.id for request, _ in clock.unattended(farm.service)] == [farm.request]
    clock.close(farm.service, farm.request)
    assert clock.unattended(farm.service) == []
    assert farm.exchange("w1", 1, {1: b"result"}).header.get("stop")
    assert farm.state == RequestState.ENDED


def test_a_request_without_tasks_that_nobody_adds_to_ends(farm: OpenFarm) -> None:
    clock.close(farm.service, farm.request)
    assert farm.state == RequestState.ENDED
    assert farm.exchange("w1", 1).status == 410
