"""What the store knows of workers, and what of that is part of a request's progress."""

import pytest

from sheepdog.errors import RequestNotFound
from sheepdog.storage import Storage
from sheepdog.values.facts import WorkerFacts
from sheepdog.values.model import Kind, Progress
from tests.storage.samples import request_of


def worker(name: str, **facts: object) -> WorkerFacts:
    known = {"array": 1, "element": name, "host": "node1", "python": "3.11.2", "joined": 1.5, "heard": 2.5}
    return WorkerFacts(name, **{**known, **facts})  # type: ignore[arg-type]


def test_the_latest_that_is_known_of_a_worker_is_kept(storage: Storage) -> None:
    request, other = request_of(storage, 3), request_of(storage, 3)
    first, second = worker("b", task=1, attempt=2, since=2.0), worker("a", joined=3.5)
    storage.store_workers(request, [second, first])
    assert storage.workers(request) == [first, second]
    later = first._replace(heard=9.5, task=0, attempt=0, since=None, ended=9.5, why="its time is over")
    storage.store_workers(request, iter([later]))
    assert storage.workers(request) == [later, second]
    assert storage.workers(other) == []


def test_workers_of_no_request(storage: Storage) -> None:
    with pytest.raises(RequestNotFound):
        storage.store_workers(1, [worker("a")])
    with pytest.raises(RequestNotFound):
        storage.workers(1)


def test_the_progress_tells_what_runs_and_where(storage: Storage) -> None:
    request = request_of(storage, 9)
    storage.store_result(request, 9, b"r")
    there = [worker("a", task=1), worker("b", task=2, host="node2"), worker("c", host="node2"), worker("d", host="")]
    storage.store_workers(request, [*there, worker("e", task=3, host="node3", ended=4.5)])
    progress = storage.progress(request)
    assert progress == Progress(9, 1, 0, running=2, workers=4, hosts=("node1", "node2"))
    assert progress.waiting == 6
    assert str(progress) == "1/9 results, 0 errors"
    assert progress.summary == "1/9 results, 0 errors; 2 run on 2 hosts, 6 wait"


def test_a_worker_that_has_not_told_that_its_task_has_ended_does_not_run_another(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_workers(request, [worker("a", task=1), worker("b", task=2)])
    storage.store_result(request, 1, b"r")
    assert storage.progress(request).running == 1
    assert storage.progress(request).waiting == 0


@pytest.mark.parametrize("how", ["results", "cancelled", "closed", "never submitted"])
def test_no_task_of_a_request_that_has_ended_runs(storage: Storage, how: str) -> None:
    request = storage.new_request(b"f", b"ns", [b"one"], open=how == "closed")
    running = worker("a", task=1, attempt=1, since=2.0)
    storage.store_workers(request, [running])
    if how == "results":
        storage.store_result(request, 1, b"r")
    elif how == "cancelled":
        storage.end_pending(request, Kind.CANCELLED, "cancelled")
    elif how == "closed":
        storage.store_result(request, 1, b"r")
        storage.close_request(request)
    else:
        storage.step(request, "end")
    [ended] = storage.workers(request)
    assert ended.ended
    why = "the request has ended"
    assert ended == running._replace(task=0, attempt=0, since=None, ended=ended.ended, why=why)
    storage.store_workers(request, [running])  # as it said before
    progress = storage.progress(request)
    assert (progress.running, progress.workers, progress.hosts) == (0, 0, ())


def test_the_workers_of_a_request_that_is_tried_again_are_no_more(storage: Storage) -> None:
    request = request_of(storage, 1)
    gone = worker("a", ended=4.5, why="its time is over")
    storage.store_workers(request, [gone, worker("b")])
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    storage.retry(request, {}, False)
    first, second = storage.workers(request)
    assert first == gone
    assert second.ended is not None
    assert storage.progress(request).workers == 0


def test_the_workers_of_a_request_are_removed_with_it(storage: Storage) -> None:
    request, other = request_of(storage, 1), request_of(storage, 1)
    for each in (request, other):
        storage.store_workers(each, [worker("a")])
    storage.remove_request(request)
    assert storage.db.execute("SELECT request FROM worker").fetchall() == [(other,)]
