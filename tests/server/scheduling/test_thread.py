"""The thread for the schedulers and its watchers: it has a watcher for each head node, and ends when it is told to."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from sheepdog.deployment import Host
from sheepdog.server.decide import clock
from sheepdog.server.decide.service import Service
from sheepdog.server.scheduling import nodes
from sheepdog.server.scheduling.clearing import LEAVING
from sheepdog.server.scheduling.thread import Scheduling
from sheepdog.server.writer import Writer
from sheepdog.storage import Storage
from sheepdog.values.model import JobStatus, Kind, RequestState
from tests.faults import fault
from tests.server.scheduling.fakes import FakeScheduler, Farm
from tests.waiting import until

# The thread


@pytest.mark.slow
def test_the_thread_looks_by_itself_and_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    looked = threading.Semaphore(0)

    class Failing:
        def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
            looked.release()
            raise RuntimeError("surprise")

    thread = Scheduling(Failing())
    thread.start()
    try:
        assert all(looked.acquire(timeout=60) for _ in range(2))
    finally:
        thread._over.set()
        thread.join()
    assert "surprise" in caplog.text


def test_stop_clears_up_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with Storage(tmp_path / "db") as storage:
        farm = Farm(storage, tmp_path)
        request = farm.request("7")
        fake = farm.put(request, FakeScheduler())
        farm.thread._over.set()
        farm.thread.start()
        farm.thread.join()
        farm.finish(request)
        farm.thread.stop()
    assert fake.cancelled == ["7"]


@pytest.mark.slow
def test_stop_does_not_wait_for_a_writer_that_died(tmp_path: Path) -> None:
    """The server then ends, so that another one can take over; while it waits, it holds the lock."""
    writer = Writer(str(tmp_path / "db"))
    thread = Scheduling(writer)
    thread.start()
    stopping = threading.Thread(target=thread.stop, daemon=True)
    stopping.start()
    try:
        stopping.join(8)
        assert not stopping.is_alive()
    finally:
        while not writer.jobs.empty():
            job = writer.jobs.get()
            assert job
            job[1].set_result([])
        stopping.join()


# The watchers


def test_watchers_are_there_for_as_long_as_there_is_something_to_do(farm: Farm) -> None:
    first, second = farm.request("1", host="first"), farm.request("2", host="second")
    for request in (first, second):
        farm.put(request, FakeScheduler()).gone.add(farm.directory(request).name)
    farm.look()
    assert [watcher.context.key[1] for watcher in farm.thread.watchers.values()] == ["first", "second"]
    there = farm.watcher(first)
    farm.finish(first)
    for later in (0.0, LEAVING, 0.0):  # its directory goes last
        farm.look(later)
    assert [watcher.context.key[1] for watcher in farm.thread.watchers.values()] == ["second"]
    assert there._over.is_set()


@pytest.mark.slow
@fault("slow head node", "a head node does not answer", promise="the others are asked all the while")
def test_a_head_node_that_hangs_delays_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(FakeScheduler):
        def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
            hangs.set()
            assert goes_on.wait(60)
            return super().status(host, jobs)

    with Storage(tmp_path / "db") as storage:
        storage.initdb()
        writer = Writer(str(tmp_path / "db"))
        writer.start()
        farm = Farm(storage, tmp_path)
        farm.thread = Scheduling(writer)
        first, second = (farm.request(host[0], host=host, poll_interval=1.0) for host in ("first", "second"))
        writer.submit(clock.tick).result()
        there = farm.put(second, FakeScheduler(1.0))
        farm.put(first, Hanging())
        for request in (first, second):
            farm.watcher(request).context.writer = writer
        farm.thread.start()
        try:
            assert hangs.wait(60)
            asked = len(there.asked)
            until(lambda: len(there.asked) > asked + 1, "the other is asked again and again")
            storage.end_pending(second, Kind.CANCELLED, "cancelled")
            until(lambda: farm.state(second) == RequestState.CLOSED, "it is cleared up there")
        finally:
            goes_on.set()
            farm.thread.stop()
            writer.stop()
    assert there.cancelled == ["s"]


@pytest.mark.slow
@fault("database locked", "for longer than the threads wait", promise="they go on; the log has no traceback")
def test_a_database_that_is_locked_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(nodes, "PATIENCE", 0.1)
    asked: list[object] = []

    class Counting(Writer):
        def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
            asked.append(decide)
            return super().submit(decide)

    with Storage(tmp_path / "db") as storage:
        storage.initdb()
        writer = Counting(str(tmp_path / "db"))
        writer.start()
        farm = Farm(storage, tmp_path)
        farm.thread = Scheduling(writer)
        request = farm.request("1", host="first", poll_interval=1.0)
        writer.submit(clock.tick).result()
        fake = farm.put(request, FakeScheduler(1.0))
        farm.watcher(request).context.writer = writer
        farm.thread.start()
        try:
            until(lambda: fake.asked, "the head node is asked")
            with storage.transaction():
                locked = len(asked)
                until(lambda: len(asked) > locked + 6, "both threads have given up waiting")
            before = len(fake.asked)
            until(lambda: len(fake.asked) > before, "the head node is asked again")
        finally:
            farm.thread.stop()
            writer.stop()
    assert "Traceback" not in caplog.text
    assert "failed" not in caplog.text
