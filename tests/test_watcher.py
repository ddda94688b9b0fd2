"""The watcher, with small objects for what it asks and what decides; the decisions are real ones, over a real store."""

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from sheepdog.errors import HostError, SchedulerError
from sheepdog.job_file import Job
from sheepdog.model import JobStatus
from sheepdog.serialisation import form
from sheepdog.service import Call, Service
from sheepdog.storage import Storage
from sheepdog.watcher import FIRST, LONGEST, HeadNode, Watcher, head_key, last_words
from sheepdog.writer import Writer

INTERVAL = 30.0
RUNNING = JobStatus(running=frozenset({"1"}))


class Inline:
    """A Submitter that has each decision made at once."""

    def __init__(self, storage: Storage) -> None:
        self.service = Service(storage, time.monotonic)

    @property
    def unfinished(self) -> list[int]:
        return self.service.storage.unfinished()

    def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(decide(self.service))
        except Exception as error:
            future.set_exception(error)
        return future


class Paddock:
    """A Host and a Scheduler on it that keep what they were asked."""

    name = "gridengine"

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self.asked: list[list[str]] = []
        self.cancelled: list[str] = []
        self.commands: list[Sequence[str]] = []
        self.answers: dict[str, JobStatus] = {}
        self.output = b""
        self.error: Exception | None = None

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        self.commands.append(command)
        return self.output

    def files(self, job: Job) -> dict[str, bytes]:
        return {}

    def submit(self, host: Any, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        return "12", "dir"

    def status(self, host: Any, jobs: Iterable[str]) -> dict[str, JobStatus]:
        self.asked.append(list(jobs))
        if self.error:
            raise self.error
        return {job: self.answers.get(job, RUNNING) for job in self.asked[-1]}

    def cancel(self, host: Any, job: str) -> None:
        self.cancelled.append(job)
        if self.error:
            raise self.error


class Farm:
    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.writer = Inline(storage)
        self.watcher = Watcher(self.writer)
        self.now = time.monotonic()

    def request(self, job: str, host: str = "head", **options: Any) -> int:
        """Store a request with this array job, and the host it is on."""
        options = {"scheduler": "gridengine", "host": host, "poll_interval": INTERVAL, "lease": 150.0, **options}
        request = self.storage.new_request(b"f", b"", [b"1", b"2"], form=form(), options=options)
        if job:
            self.storage.set_submitted(request, job, f"/home/{job}", 2, [])
        return request

    def paddock(self, request: int, paddock: Paddock) -> Paddock:
        """Put what is asked in the place of the real one."""
        self.watcher.nodes[head_key(self.storage.get_request(request))] = HeadNode(paddock, paddock)
        return paddock

    def look(self, later: float = 0.0) -> None:
        self.now = max(self.now, time.monotonic()) + later
        self.watcher.look(self.now)

    def errors(self, request: int) -> list[str]:
        return [outcome.value.decode() for _, outcome in self.storage.errors(request)]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with Storage(tmp_path / "db") as storage:
        yield Farm(storage)


# Requests that nobody will submit


@pytest.mark.parametrize("workers_call", [False, True])
def test_a_request_whose_maker_has_ended_is_ended(farm: Farm, workers_call: bool) -> None:
    """Unless its workers call: then it was submitted, and only the note of that is missing."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    lost = farm.request("", submitter=[socket.gethostname(), ended.pid])
    being_made = farm.request("", submitter=[socket.gethostname(), os.getpid()])
    elsewhere = farm.request("", submitter=["another-machine", ended.pid])
    if workers_call:
        header = {"worker": "w", "call": 1, "want": 1, "holding": [], "outcomes": []}
        farm.writer.submit(lambda service: service.handle(Call(lost, "exchange", header))).result()
    farm.look()
    assert farm.storage.unfinished() == [lost] * workers_call + [being_made, elsewhere]


# When it asks


def test_one_question_for_all_requests_of_a_head_node(farm: Farm) -> None:
    paddock = farm.paddock(farm.request("1"), Paddock())
    farm.request("2")
    farm.request("3")
    other = farm.paddock(farm.request("4", host="another"), Paddock())
    farm.look()
    assert paddock.asked == [["1", "2", "3"]]
    assert other.asked == [["4"]]
    assert farm.watcher.calls == 2


def test_not_more_often_than_the_interval(farm: Farm) -> None:
    paddock = farm.paddock(farm.request("1"), Paddock())
    for later in (0, 1, INTERVAL - 2, 1 / 2):
        farm.look(later)
    assert len(paddock.asked) == 1
    farm.request("2")
    farm.look(1)
    assert paddock.asked == [["1"], ["1", "2"]]


@pytest.mark.parametrize(("poll_interval", "first"), [(30.0, FIRST), (2.0, 2.0)])
def test_the_first_question_waits_for_the_job_to_show(farm: Farm, poll_interval: float, first: float) -> None:
    request = farm.request("1", host="nowhere.invalid", poll_interval=poll_interval)
    farm.look()
    node = farm.watcher.nodes[head_key(farm.storage.get_request(request))]
    assert node.next - farm.now == pytest.approx(first)
    assert farm.watcher.calls == 0


def test_a_request_that_was_not_submitted_yet_is_not_asked_about(farm: Farm) -> None:
    paddock = farm.paddock(farm.request(""), Paddock())
    farm.look()
    assert paddock.asked == []
    farm.storage.set_submitted(1, "12", "dir", 1, [])
    farm.look()
    assert paddock.asked == [["12"]]


@pytest.mark.parametrize("error", [HostError("head does not answer"), SchedulerError("no XML"), OSError("surprise")])
def test_a_head_node_that_does_not_answer_is_asked_less_and_less_often(
    farm: Farm, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    paddock = farm.paddock(farm.request("1"), Paddock())
    node = next(iter(farm.watcher.nodes.values()))
    paddock.error = error
    pauses = []
    for _ in range(8):
        farm.look(LONGEST)
        pauses.append(round(node.next - time.monotonic()))
    assert pauses[0] > INTERVAL
    assert pauses == sorted(pauses)
    assert max(pauses) == pytest.approx(LONGEST, abs=1)
    assert str(error) in caplog.text
    paddock.error = None
    farm.look(LONGEST)
    assert node.next - time.monotonic() == pytest.approx(INTERVAL, abs=1)
    assert farm.errors(1) == []


@pytest.mark.parametrize("error", [HostError("does not answer"), OSError("surprise")])
def test_what_is_wrong_on_one_head_node_does_not_stand_in_the_way_of_another(farm: Farm, error: Exception) -> None:
    first, second = (farm.paddock(farm.request(job, host=job), Paddock()) for job in ("1", "2"))
    first.error = error
    try:
        farm.look()
    except OSError:
        logging.exception("as in run()")
    assert second.asked == [["2"]]


# What it makes of the answer


def test_what_the_scheduler_says_is_heeded(farm: Farm) -> None:
    request = farm.request("1")
    other = farm.request("2")
    paddock = farm.paddock(request, Paddock())
    farm.look()
    paddock.answers = {"1": JobStatus(reason="it was deleted")}
    paddock.output = b"  worker: no python here\n"
    farm.look(INTERVAL)
    assert farm.errors(request) == []  # it may be wrong once
    farm.look(2 * INTERVAL)
    assert farm.errors(request)[0].startswith("not run: ")
    assert "it was deleted; the last line of its output is: worker: no python here" in farm.errors(request)[0]
    assert farm.errors(other) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, ""),
        ({"herd.o12.1": "one\n\n", "herd.e12.1": "two\n"}, "the last line of its output is: one"),
        ({"worker.1.log": "x\ny\n"}, "the last line of its output is: y"),
        ({"worker.1.log": "x" * 9999}, "the last line of its output is: " + "x" * 500),
        ({"secret.json": "token"}, ""),
    ],
)
def test_last_words(tmp_path: Path, files: dict[str, str], said: str) -> None:
    from sheepdog.deployment import LocalHost

    there = tmp_path / "the job's"
    there.mkdir()
    for name, text in files.items():
        (there / name).write_text(text)
    assert last_words(LocalHost(), str(there)) == said
    assert last_words(LocalHost(), str(tmp_path / "nothing")) == ""


# What it clears up


def finish(farm: Farm, request: int, elements: Sequence[str]) -> None:
    """Have the two tasks of a request ended by workers of these elements."""
    for task, element in zip((1, 2), elements, strict=True):
        header = {"worker": f"w{task}", "element": element, "call": task, "want": 0, "holding": []}
        call = Call(request, "exchange", {**header, "outcomes": [[task, 1, 0, 0.0]]}, [b"r", b""])
        assert farm.writer.service.handle(call).status == 200


@pytest.mark.parametrize(("elements", "cancelled"), [("11", ["7"]), ("12", [])])
def test_elements_that_never_started_are_taken_away(farm: Farm, elements: str, cancelled: list[str]) -> None:
    request = farm.request("7")
    paddock = farm.paddock(request, Paddock())
    farm.look()
    finish(farm, request, elements)
    for _ in range(2):
        farm.look()
    assert paddock.cancelled == cancelled
    assert paddock.commands == []  # the files stay


def test_a_request_that_ended_before_it_was_noticed_is_cleared_up_too(farm: Farm) -> None:
    request = farm.request("7")
    paddock = farm.paddock(request, Paddock())
    finish(farm, request, "11")
    farm.look()
    assert paddock.cancelled == ["7"]
    assert paddock.asked == []


def test_what_is_left_of_local_workers_is_removed_unless_it_tells_why(farm: Farm) -> None:
    done, lost = farm.request("7", scheduler="local"), farm.request("8", scheduler="local")
    paddock = farm.paddock(done, Paddock(1.0))
    paddock.name = "local"
    finish(farm, done, "11")
    farm.look()
    assert paddock.commands == [["rm", "-rf", "/home/7"]]
    paddock.answers["8"] = JobStatus(reason="its processes ended")
    for _ in range(3):
        farm.look(1)
    assert "its processes ended" in farm.errors(lost)[0]
    assert not any(command[0] == "rm" and "/home/8" in command for command in paddock.commands)


def test_what_cannot_be_cleared_up_does_not_stand_in_the_way(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    first, second = farm.request("1", host="first"), farm.request("2", host="second")
    broken, sound = farm.paddock(first, Paddock()), farm.paddock(second, Paddock())
    broken.error = HostError("does not answer")
    for request in (first, second):
        finish(farm, request, "11")
    farm.look()
    assert sound.cancelled == ["2"]
    assert "what is left of its job 1 stays: does not answer" in caplog.text


# The thread


def test_the_thread_looks_by_itself_and_goes_on_after_a_failure(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    writer = farm.writer
    looked = threading.Semaphore(0)

    class Failing:
        @property
        def unfinished(self) -> list[int]:
            looked.release()
            raise RuntimeError("surprise")

        submit = writer.submit

    watcher = Watcher(Failing())
    watcher.start()
    try:
        assert all(looked.acquire(timeout=10) for _ in range(2))
    finally:
        watcher._over.set()
        watcher.join()
    assert "surprise" in caplog.text


def test_stop_clears_up_once_more(farm: Farm) -> None:
    request = farm.request("7")
    paddock = farm.paddock(request, Paddock())
    farm.watcher.start()
    finish(farm, request, "11")
    farm.watcher.stop()
    assert paddock.cancelled == ["7"]


def test_stop_does_not_wait_for_a_writer_that_died(tmp_path: Path) -> None:
    """The server then ends, so that another one can take over; while it waits, it holds the lock."""
    writer = Writer(str(tmp_path / "db"))
    watcher = Watcher(writer)
    watcher.start()
    stopping = threading.Thread(target=watcher.stop, daemon=True)
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
