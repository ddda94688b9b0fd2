"""The thread for the schedulers: it goes on after a failure, and ends when it is told to."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from sheepdog.server.decide.service import Service
from sheepdog.server.scheduling.thread import Scheduling
from sheepdog.server.writer import Writer
from sheepdog.storage import Storage
from tests.server.scheduling.fakes import FakeScheduler, Farm

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
        assert all(looked.acquire(timeout=10) for _ in range(2))
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
