"""What the server remembers of requests, over a real store: taken over, cancelled, begun again."""

from collections.abc import Sequence

import pytest

from sheepdog.server.calls import Call
from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.outcomes import collect
from sheepdog.server.decide.service import Service
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, Kind
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.server.decide.farm import LEASE, LONGEST_PAUSE, Farm

# A server that took over from another


def drain(farm: Farm, workers: Sequence[str]) -> list[int]:
    """Have these workers take what there is."""
    return sorted(index for worker in workers for index in farm.take(worker, 9))


@fault(
    1,
    "a server that takes over from one that died",
    promise="what workers still hold is not leased to others; the rest is",
)
def test_after_a_restart_what_workers_hold_is_not_leased_again(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 10, workers=9)
    assert farm.take("w1", 2) == [1, 2]
    assert farm.take("w2", 2) == [3, 4]
    farm.exchange("w1", 0, {1: b"r"}, [2])
    farm.restart()
    assert farm.take("w3", 9) == [5, 6, 7]
    farm.exchange("w1", 0, holding=[2])
    farm.exchange("w2", 0, holding=[4])  # 3 was given back meanwhile
    farm.now += LEASE / 2
    for worker, held in (("w1", [2]), ("w2", [4]), ("w3", [5, 6, 7])):
        farm.exchange(worker, 0, holding=held)
    farm.now += LEASE / 2 + 1
    clock.tick(farm.service)
    assert drain(farm, ["w4", "w5", "w6", "w7"]) == [3, 8, 9, 10]


@fault(1, "a worker that finds the next server late", promise="its task is still its own")
@fault("other people", "a worker, or a copy, of a request that was made in another file", promise="it is not served")
def test_requests_of_another_file_are_none_of_the_service_s(storage: Storage) -> None:
    mine, copied = (storage.new_request(b"f", b"", [b"1"], form=form(), options={}) for _ in range(2))
    storage.db.execute("UPDATE request SET home = 'elsewhere' WHERE id = ?", (copied,))
    service = Service(storage, lambda: 0.0)
    assert service.open_requests() == [mine]
    assert service.find(mine)
    assert service.find(copied) is None
    assert service.token(mine)
    assert service.token(copied) is None


def test_a_worker_that_tried_for_long_finds_its_task_still_its_own(storage: Storage) -> None:
    """A worker that could not reach the server tries again after up to a minute (Line._wait_longer)."""
    farm = Farm(storage, [b""] * 10, workers=9)
    assert farm.take("w1", 1) == [1]
    assert farm.take("w2", 1) == [2]
    farm.restart()
    farm.exchange("w2", 0, holding=[2])
    farm.now += LONGEST_PAUSE - 1
    clock.tick(farm.service)
    assert 1 not in drain(farm, ["w3", "w4", "w5"])
    farm.exchange("w1", 0, holding=[1])
    assert farm.service.live[farm.request].queue.holders["w1"].held == {1: 1}


def test_when_all_workers_were_heard_nothing_is_doubtful(storage: Storage) -> None:
    farm = Farm(storage, [b"1", b"2", b"3"], workers=2)
    assert farm.take("w1", 1) + farm.take("w2", 2) == [1, 2]
    farm.restart()
    farm.exchange("w1", 0, holding=[1])
    assert farm.take("w2", 1) == [2]


def test_workers_of_another_array_job_do_not_count_as_heard(storage: Storage) -> None:
    """A server that dies while it submits workers again: the new ones may call the next server before the old ones."""
    farm = Farm(storage, [b"1", b"2", b"3"], workers=2)
    assert farm.take("w1", 1) + farm.take("w2", 2) == [1, 2]
    storage.new_array(farm.request, ArrayJob(0, "other", "dir", 2))  # nobody saw its submission to its end
    farm.restart()
    for worker in ("x1", "x2", "x1"):
        for _, attempt in farm.exchange(worker, 1, array=2).header["tasks"]:
            assert attempt == 1
    assert farm.live.queue.doubtful


# Cancelled, and tried again


def cancel(farm: Farm) -> int:
    """As another process does it."""
    with Storage(farm.storage.dbfile) as other:
        return other.end_pending(farm.request, Kind.CANCELLED, "cancelled by its user")


@pytest.mark.parametrize("ticks", [True, False])
@fault("cancel", "workers of a cancelled request", promise="they are sent away; what they bring changes nothing")
def test_a_cancelled_request_sends_its_workers_away(farm: Farm, ticks: bool) -> None:
    farm.take("w1", 2)
    assert cancel(farm) == 10
    if ticks:
        clock.tick(farm.service)
        assert farm.service.live == {}
    reply = farm.exchange("w1", 1, {1: b"late"})
    assert (reply.status, reply.text) == (410, "the request has ended")
    assert farm.storage.progress(farm.request).cancelled == 10
    [(_, [array], waiting)] = arrays.left_over(farm.service)
    assert (array.job, waiting) == ("12", True)


@pytest.mark.parametrize("ticks", [True, False])
def test_a_request_that_is_begun_again_is_another_one(farm: Farm, ticks: bool) -> None:
    """Even if it was cancelled, cleared and tried again between two ticks."""
    farm.take("w1", 2)
    cancel(farm)
    with Storage(farm.storage.dbfile) as other:
        assert other.step(farm.request, "clear")
        assert other.retry(farm.request, {"lease": 1.0}, failed=False) == 10
    if ticks:
        clock.tick(farm.service)
    farm.submit(2)
    clock.tick(farm.service)
    assert farm.exchange("new", 1, array=2).header["tasks"] == [[1, 2]]
    assert farm.live.queue.lease == 1.0
    assert set(farm.live.jobs.there) == {2}


def test_single_tasks_are_taken_back(farm: Farm) -> None:
    """One that waits is leased to nobody; one that runs is late; the others go on."""
    assert farm.take("w1", 2) == [1, 2]
    with Storage(farm.storage.dbfile) as other:
        counts = [other.end_pending(farm.request, Kind.CANCELLED, "taken back", [task]) for task in (2, 4, 4, 99)]
        assert counts == [1, 1, 0, 0]
    clock.tick(farm.service)
    farm.exchange("w1", 0, {1: b"one", 2: b"two"})
    assert farm.take("w1", 20) == [3, 5, 6, 7]  # its share
    progress = farm.storage.progress(farm.request)
    assert (progress.done, progress.cancelled, progress.ended) == (1, 2, 3)


def test_no_task_is_leased_of_which_the_user_said_that_it_is_cancelled(farm: Farm) -> None:
    farm.take("w1", 1)
    cancel(farm)
    assert farm.exchange("w2", 1).status == 410


# What a server knows that takes over


def test_a_server_that_takes_over_knows_the_same_past(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 6, workers=3, retries=5, retry_delay=0.0, on_oom="2x")
    for kind in (Kind.RAISED, Kind.INTERRUPTED, Kind.TIMEOUT, Kind.MEMORY):
        for index, attempt in farm.exchange("w1", 2).header["tasks"]:
            farm.exchange("w1", 0, {index: b"why"}, kind=kind, attempt=attempt)
    farm.take("w2", 1)
    farm.now += LEASE + 1
    farm.exchange("w1", 0)
    clock.tick(farm.service)
    known = farm.live.queue.past
    assert len(known) > 1
    assert {kind for _, _, kind, _ in farm.history} > {Kind.LOST, Kind.RAISED, Kind.MEMORY}
    farm.restart()
    assert farm.live.queue.past == known


def test_doubtful_tasks_that_nobody_names_are_counted_as_attempts(farm: Farm) -> None:
    farm.take("w1", 2)
    farm.restart()
    clock.tick(farm.service)
    farm.now += LEASE
    farm.exchange("w2", 0)
    clock.tick(farm.service)
    assert farm.history == []
    farm.now += 1
    clock.tick(farm.service)
    assert farm.history == [(1, 1, Kind.LOST, False), (2, 1, Kind.LOST, False)]
    assert farm.exchange("w2", 2).header["tasks"] == [[1, 2], [2, 2]]
    assert farm.live.queue.past[1].losses == 0  # nobody's fault
    known = farm.live.queue.past
    farm.restart()
    assert farm.live.queue.past == known


def test_outcomes_that_a_worker_left_behind_are_collected(farm: Farm) -> None:
    farm.take("w1", 2)
    header = {"worker": "w1", "call": 9, "want": 0, "holding": [], "outcomes": [[1, 1, 0, 0.5], [99, 1, 0, 0.5]]}
    for _ in range(2):
        collect(farm.service, Call(farm.request, "exchange", header, [b"result", b"", b"", b""]))
    assert farm.storage.get_results(farm.request) == [(b"args 1", b"result")]


@fault((13, 46), "outcomes that were left in files come after the request has ended", promise="they change nothing")
def test_what_is_collected_of_a_request_that_has_ended_changes_nothing(farm: Farm) -> None:
    cancel(farm)
    header = {"worker": "w1", "call": 9, "want": 0, "holding": [], "outcomes": [[1, 1, 0, 0.5]]}
    collect(farm.service, Call(farm.request, "exchange", header, [b"result", b""]))
    assert farm.storage.count_results(farm.request) == 0
