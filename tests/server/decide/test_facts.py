"""What the store tells of a request's workers and of what has happened, by way of the service's decisions."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from sheepdog.client import describe_python
from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.facts import HEARD
from sheepdog.storage import Storage
from sheepdog.values.facts import Event, What, WorkerFacts
from sheepdog.values.model import ArrayJob, JobStatus, Kind
from tests.server.decide.farm import LEASE, Farm, gone_after_work, submit_again
from tests.waiting import until

ENDS = {"the request has ended", "there was no task for it"}
VERSION = describe_python()["version"]


def tick(farm: Farm, seconds: float = 1.0) -> None:
    farm.now += seconds
    clock.tick(farm.service)


def workers(farm: Farm) -> dict[str, WorkerFacts]:
    return {worker.name: worker for worker in farm.storage.workers(farm.request)}


def why(farm: Farm) -> dict[str, str]:
    return {name: worker.why for name, worker in workers(farm).items() if worker.ended is not None}


def events(farm: Farm, *kinds: What) -> list[Event]:
    return [event for event in farm.storage.events(farm.request) if event.what in kinds]


# Workers


def test_a_worker_is_stored_with_what_it_is_and_what_it_runs(farm: Farm) -> None:
    before = time.time()
    farm.join("w1")
    farm.exchange("w1", 4)
    tick(farm)
    worker = workers(farm)["w1"]
    assert (worker.array, worker.element, worker.host, worker.python) == (1, "1", "node1", VERSION)
    assert (worker.ended, worker.why, worker.task, worker.attempt) == (None, "", 1, 1)  # it begins with the first
    assert worker.since is not None
    assert before <= worker.joined <= worker.since <= time.time()
    farm.exchange("w1", 0, {1: b"result"}, holding=[2, 3, 4], running=[3, 1, 5.0])
    tick(farm)
    later = workers(farm)["w1"]
    assert (later.task, later.attempt, later.joined) == (3, 1, worker.joined)
    assert later.since is not None
    assert later.since <= time.time() - 5.0
    farm.exchange("w1", 0, holding=[3, 4], running=[3, 1, 25.0])
    tick(farm, HEARD)
    assert workers(farm)["w1"].since == later.since


def test_progress_says_how_many_run_and_where(farm: Farm) -> None:
    farm.exchange("w1", 1)
    farm.exchange("w2", 1, host="node2")
    farm.exchange("w3", 0, host="node2")
    tick(farm)
    progress = farm.storage.progress(farm.request)
    assert (progress.running, progress.workers, progress.hosts) == (2, 3, ("node1", "node2"))
    assert progress.summary == "0/10 results, 0 errors; 2 run on 2 hosts, 8 wait"
    farm.exchange("w1", 0, {1: b"result"})
    tick(farm)
    assert farm.storage.progress(farm.request).running == 1


def test_workers_that_are_never_idle_always_run_something(farm: Farm) -> None:
    for worker in ("w1", "w2"):
        farm.exchange(worker, 1)
    tick(farm)
    for step in range(4):
        for worker in ("w1", "w2"):
            farm.now += 0.3
            farm.exchange(worker, 1, dict.fromkeys(farm.live.queue.holders[worker].held, b"result"))
            assert farm.storage.progress(farm.request).running == 2, step
        tick(farm, 0.1)


def test_a_worker_of_old_runs_the_first_task_that_it_holds(farm: Farm) -> None:
    farm.exchange("w1", 3)
    farm.exchange("w1", 0, {1: b"result"}, holding=[2, 3])
    tick(farm)
    assert workers(farm)["w1"].task == 2


def test_nothing_is_stored_for_each_task(farm: Farm) -> None:
    farm.exchange("w1", 1)
    tick(farm)
    changes = farm.storage.db.total_changes
    for task in range(1, 6):
        farm.exchange("w1", 1, {task: b"result"})
    per_task = (farm.storage.db.total_changes - changes) / 5
    assert workers(farm)["w1"].task == 1
    farm.now += 1.0
    changes = farm.storage.db.total_changes
    farm.exchange("w1", 1, {6: b"result"})  # one that is committed anyway takes what there is along
    assert farm.storage.db.total_changes - changes == per_task + 1
    assert workers(farm)["w1"].task == 7  # what it has been given by this exchange


def test_signs_of_life_alone_are_stored_seldom(farm: Farm) -> None:
    farm.exchange("w1", 1)
    tick(farm)
    changes = farm.storage.db.total_changes
    heard = workers(farm)["w1"].heard
    for _ in range(int(HEARD) - 1):
        farm.exchange("w1", 0, holding=[1])
        tick(farm)
    assert farm.storage.db.total_changes == changes
    farm.exchange("w1", 0, holding=[1])
    tick(farm)
    assert workers(farm)["w1"].heard > heard


def test_why_a_worker_is_no_more(farm: Farm) -> None:
    farm.exchange("silent", 1)
    farm.exchange("leaving", 1, leaving={"seconds": 5, "reason": "SIGTERM"})
    tick(farm, LEASE + 1)
    farm.exchange("missed", 1)
    farm.heed(JobStatus(pending=1), times=2)
    farm.exchange("1", 1, element="one")
    farm.exchange("2", 1, element="one")
    farm.join("other", python={**describe_python(), "magic": "00"})
    tick(farm)
    said = why(farm)
    assert said.pop("other").startswith("the worker on node1 runs ")
    assert said == {
        "silent": "nothing was heard of it for 150 s",
        "leaving": "it was ended: SIGTERM",
        "missed": "the scheduler says that it has ended",
        "1": "it was started again",
    }
    assert all(worker.task == 0 for name, worker in workers(farm).items() if name != "2")
    assert {event.worker for event in events(farm, What.LOST)} == {"silent", "missed", "1"}
    assert [event.worker for event in events(farm, What.LEAVING)] == ["leaving"]
    assert [event.worker for event in events(farm, What.REFUSED)] == ["other"]


def test_a_worker_that_was_believed_lost_is_there_again(farm: Farm) -> None:
    farm.exchange("w1", 1)
    tick(farm, LEASE + 1)
    tick(farm)
    assert why(farm)
    farm.exchange("w1", 0, holding=[1])
    tick(farm)
    assert not why(farm)
    assert workers(farm)["w1"].task == 1


def test_all_are_no_more_when_the_request_ends(storage: Storage) -> None:
    farm = Farm(storage, [b"1"])
    farm.exchange("w1", 1)
    farm.exchange("w2", 0)
    farm.exchange("w1", 1, {1: b"result"})
    assert why(farm) == dict.fromkeys(["w1", "w2"], "the request has ended")
    assert storage.progress(farm.request).workers == 0
    assert events(farm, What.ENDED)


def test_all_are_no_more_when_another_program_ends_the_request(farm: Farm) -> None:
    farm.exchange("w1", 1)
    tick(farm)
    with Storage(farm.storage.dbfile) as other:
        other.end_pending(farm.request, Kind.CANCELLED, "cancelled")
    tick(farm)
    assert why(farm) == {"w1": "the request has ended"}


# After a restart


def test_a_worker_keeps_its_story_over_a_restart(farm: Farm) -> None:
    farm.join("w1")
    farm.exchange("w1", 1)
    tick(farm)
    before = workers(farm)["w1"]
    farm.restart()
    farm.exchange("w1", 0, holding=[1])
    tick(farm)
    after = workers(farm)["w1"]
    assert (after.joined, after.python, after.task) == (before.joined, VERSION, 1)
    assert len(events(farm, What.JOINED)) == 1


def test_workers_that_went_with_a_server_are_no_more_after_a_lease(farm: Farm) -> None:
    farm.exchange("w1", 1)
    farm.exchange("w2", 1)
    tick(farm)
    farm.restart()
    farm.exchange("w2", 0, holding=[2])
    tick(farm, LEASE - 1)
    farm.exchange("w2", 0, holding=[2])
    assert not why(farm)
    tick(farm, 2)
    tick(farm)
    assert why(farm) == {"w1": "nothing was heard of it since the server was restarted"}
    assert farm.storage.progress(farm.request).running == 1


def test_workers_that_went_with_a_server_are_no_more_when_the_scheduler_says_so(farm: Farm) -> None:
    farm.exchange("w1", 1)
    tick(farm)
    farm.restart()
    gone_after_work(farm)
    tick(farm)
    assert "the array job 12 has ended before its tasks" in why(farm)["w1"]


# Events


def test_the_story_of_a_request(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 3, retries=1, retry_delay=0.0, max_losses=1)
    farm.exchange("w1", 1)
    farm.exchange("w1", 1, {1: b"ZeroDivisionError: no\nTraceback"}, kind=Kind.RAISED)
    tick(farm)
    gone_after_work(farm)
    assert submit_again(farm)
    tick(farm, 2.0)
    found = [(event.what, event.task, event.worker, event.text) for event in storage.events(farm.request)]
    assert found[:4] == [
        (What.SUBMITTED, None, "", "array job 12, 2 workers"),
        (What.JOINED, None, "w1", "on node1"),
        (What.REPEATED, 1, "w1", "ZeroDivisionError: no"),
        (What.LOST, None, "w1", "on node1, with 1 task: the scheduler says that it has ended"),
    ]
    assert found[4][:3] == (What.GIVEN_UP, 1, "w1") or found[4][:3] == (What.GIVEN_UP, 2, "w1")
    kinds = [what for what, *_ in found[5:]]
    assert kinds[:3] == [What.JOB_ENDED, What.SUBMITTING, What.SUBMITTED]
    numbers = [event.number for event in storage.events(farm.request)]
    assert len(set(numbers)) == len(numbers)
    moments = [event.at for event in storage.events(farm.request)]
    assert moments == sorted(moments)


def test_workers_that_cannot_be_submitted_are_an_event(farm: Farm) -> None:
    farm.exchange("w1", 1)
    gone_after_work(farm)
    [_] = clock.wanted(farm.service)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    arrays.not_submitted(farm.service, farm.request, array.number, "no route", False)
    tick(farm)
    assert [event.text for event in events(farm, What.NOT_SUBMITTED)] == ["no route"]


def test_a_request_that_is_given_up_says_why(farm: Farm) -> None:
    farm.heed(JobStatus(broken=True, reason="Eqw"))
    assert [event.text for event in events(farm, What.STOPPED)] == ["not run: Eqw"]


def test_a_full_disk_ends_no_lease_for_the_facts_sake(farm: Farm) -> None:
    farm.exchange("w1", 1)
    farm.storage.db.execute("PRAGMA query_only = ON")
    tick(farm)
    farm.exchange("w1", 0, holding=[1])
    assert farm.live.queue.leased == 1
    farm.storage.db.execute("PRAGMA query_only = OFF")
    tick(farm)
    assert workers(farm)["w1"].task == 1


# What a worker says


@pytest.mark.parametrize(
    ("measures", "expected"),
    [((), (0, None, 0)), ((9, None, 1 << 40), (9, None, 1 << 40)), ((0, 3, 5), (0, 3, 5))],
)
def test_the_measures_of_an_outcome_are_stored(farm: Farm, measures: tuple[Any, ...], expected: object) -> None:
    farm.exchange("w1", 1)
    header = {"worker": "w1", "host": "n", "call": 9, "want": 0, "holding": [], "outcomes": [[1, 1, 2, 0.5, *measures]]}
    assert farm.call("exchange", header, [b"died", b""]).status == 200
    [(_, outcome)] = farm.storage.errors(farm.request)
    assert (outcome.signal, outcome.status, outcome.peak) == expected


@pytest.mark.parametrize(
    "measures",
    [
        ["9"],
        [-1],
        [True],
        [1 << 20],
        [9, "3"],
        [9, 1 << 40],
        [9, None, -1],
        [9, None, 0.5],
        [9, None, 1 << 62],
        [0] * 4,
    ],
)
def test_measures_that_are_none_are_refused(farm: Farm, measures: list[Any]) -> None:
    header = {"worker": "w1", "host": "n", "call": 9, "want": 0, "holding": [], "outcomes": [[1, 1, 2, 0.5, *measures]]}
    assert farm.call("exchange", header, [b"died", b""]).status == 400


@pytest.mark.parametrize(
    "running", [7, [1], [0, 1, 0.0], [1, 0, 0.0], ["1", 1, 0.0], [1, 1, -1.0], [1, 1, float("nan")], [1, 1, "x"], []]
)
def test_what_cannot_run_is_refused(farm: Farm, running: Any) -> None:
    assert farm.exchange("w1", 0, running=running).status == 400


# With real workers


@pytest.mark.slow
def test_the_store_tells_of_local_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def wait_for(path: str) -> str:
        while not os.path.exists(path):
            time.sleep(0.05)
        return path

    dbfile, go = str(tmp_path / "db.sqlite"), str(tmp_path / "go")
    request = sheepdog.map_async(
        wait_for, [(go,), ("/",), (go,)], {"scheduler": "local", "workers": 2, "dbfile": dbfile}
    )
    with sheepdog.Server(dbfile=dbfile), Storage(dbfile) as storage:
        until(lambda: {worker.task for worker in storage.workers(request)} == {1, 3}, "the other two tasks run")
        progress = storage.progress(request)
        assert (progress.running, progress.workers, len(progress.hosts)) == (2, 2, 1)
        assert progress.summary == "1/3 results, 0 errors; 2 run on 1 host"
        Path(go).touch()
        assert [result for _, result in sheepdog.get_results(request, dbfile)] == [go, "/", go]
        assert {worker.why for worker in storage.workers(request)} <= ENDS
        kinds = [event.what for event in storage.events(request)]
        assert (kinds[0], kinds[-1], kinds.count(What.JOINED)) == (What.SUBMITTED, What.ENDED, 2)
