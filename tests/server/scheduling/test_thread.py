"""The thread for the schedulers: real decisions over a real store, and this machine as the head node; only the scheduler is a small
object, or a program on the PATH."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import PROTOCOL, RESULT, describe_python, pack
from sheepdog.config import Config
from sheepdog.config.options import Options
from sheepdog.deployment import LocalHost
from sheepdog.errors import HostError, SchedulerError
from sheepdog.schedulers import submit as submission
from sheepdog.schedulers.gridengine import parse_qsub
from sheepdog.schedulers.job_file import Job
from sheepdog.server.calls import Call
from sheepdog.server.decide import clock, exchange
from sheepdog.server.decide.outcomes import LASTING
from sheepdog.server.decide.service import Service
from sheepdog.server.scheduling import asking
from sheepdog.server.scheduling.asking import RARELY
from sheepdog.server.scheduling.clearing import CLEAR_JOBS_TRIES
from sheepdog.server.scheduling.nodes import AGAIN, FIRST, LONGEST, HeadNode, head_key
from sheepdog.server.scheduling.submitting import LATE_ANSWER
from sheepdog.server.scheduling.thread import Scheduling
from sheepdog.server.writer import Writer
from sheepdog.storage import Storage
from sheepdog.values import identity as process
from sheepdog.values.model import ArrayJob, JobStatus, Kind, RequestState
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.schedulers.test_gridengine import Head
from tests.waiting import until

INTERVAL = 30.0
RUNNING = JobStatus(running=frozenset("12"))
OPEN = RequestState.NEW, RequestState.SUBMITTED


class Inline:
    """A Submitter that has each decision made at once."""

    def __init__(self, storage: Storage) -> None:
        self.service = Service(storage, time.monotonic)

    def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(decide(self.service))
        except Exception as error:
            future.set_exception(error)
        return future


class Paddock:
    """A Scheduler that keeps what it was asked; and a Host that may be out of reach."""

    name = "gridengine"
    notice = 50.0

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self.asked: list[list[str]] = []
        self.cancelled: list[str] = []
        self.answers: dict[str, JobStatus] = {}
        self.why = ""
        self.explained: list[str] = []
        self.error: Exception | None = None
        self.runs = 0

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        self.runs += 1
        if self.error:
            raise self.error
        return LocalHost().run(command, input, timeout)

    def files(self, job: Job, config: Config) -> dict[str, bytes]:
        raise NotImplementedError

    def submit(self, host: Any, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        raise NotImplementedError

    def job_id(self, text: str) -> str:
        return parse_qsub(text)

    def status(self, host: Any, jobs: Iterable[str]) -> dict[str, JobStatus]:
        self.asked.append(list(jobs))
        if self.error:
            raise self.error
        return {job: self.answers.get(job, RUNNING) for job in self.asked[-1]}

    def explain(self, host: Any, job: str) -> str:
        self.explained.append(job)
        return self.why

    def cancel(self, host: Any, jobs: Sequence[str]) -> None:
        if self.error:
            raise self.error
        self.cancelled += jobs


class Farm:
    def __init__(self, storage: Storage, home: Path) -> None:
        self.storage = storage
        self.home = home
        self.writer = Inline(storage)
        self.thread = Scheduling(self.writer)
        self.now = time.monotonic()
        storage.set_settings(port=4000, certificate="CERTIFICATE")

    def request(self, job: str, host: str | None = "head", tasks: int = 2, **options: Any) -> int:
        """Store a request with this array job, the host it is on, and the job's directory."""
        options = {"scheduler": "gridengine", "host": host, "poll_interval": INTERVAL, "lease": 150.0, **options}
        request = self.storage.new_request(b"f", b"", [b"1"] * tasks, form=form(), options=options)
        if job:
            self.storage.set_submitted(request, replace(self.array(request), job=job))
        return request

    def array(self, request: int, workers: int = 2) -> ArrayJob:
        """Note an array job that is about to be submitted, and make its directory."""
        number = len(self.storage.arrays(request)) + 1
        directory = self.home / f"herd_{request}_{number}"
        directory.mkdir()
        (directory / "secret.json").write_text("{}")
        urls = ("https://me:4000",)
        return self.storage.new_array(request, ArrayJob(0, directory.name, str(directory), workers, urls=urls))

    def directory(self, request: int) -> Path:
        return Path(self.storage.arrays(request)[0].directory)

    def paddock(self, request: int, paddock: Paddock) -> Paddock:
        """Put what is asked in the place of the real one, as if it had been asked long ago."""
        options = self.options(request)
        node = HeadNode(replace(options, config=replace(options.config, scheduler="gridengine")), 0.0)
        node.host = node.scheduler = paddock
        self.thread.context.nodes[head_key(options)] = node
        return paddock

    def node(self, request: int) -> HeadNode:
        return self.thread.context.nodes[head_key(self.options(request))]

    def options(self, request: int) -> Options:
        return Options.read(self.storage.get_request(request).options)

    def look(self, later: float = 0.0) -> None:
        clock.tick(self.writer.service)
        self.now = max(self.now, time.monotonic()) + later
        self.thread.look(self.now)

    def join(self, request: int, worker: str = "w", element: str = "1", array: int = 1) -> None:
        """Have a worker come."""
        header = {
            "worker": worker,
            "element": element,
            "array": array,
            "protocol": PROTOCOL,
            "python": describe_python(),
        }
        assert exchange.handle(self.writer.service, Call(request, "join", header)).status == 200

    def call(self, request: int, worker: str = "w", element: str = "1", array: int = 1, **said: Any) -> dict[str, Any]:
        """Have a worker call; return the header of the reply."""
        known = self.writer.service.live.get(request)
        seen = known and known.workers.known.get(worker)
        header = {"worker": worker, "element": element, "array": array, "call": seen.call + 1 if seen else 1, "want": 0}
        header.update(holding=[], outcomes=[], **said)
        reply = exchange.handle(self.writer.service, Call(request, "exchange", header))
        assert reply.status == 200, reply.text
        return reply.header

    def finish(self, request: int, elements: Sequence[str] = "11") -> None:
        """Have the two tasks of a request ended by workers of these elements."""
        for task, element in zip((1, 2), elements, strict=True):
            header = {"worker": f"w{task}", "element": element, "array": 1, "call": task, "want": 0, "holding": []}
            call = Call(request, "exchange", {**header, "outcomes": [[task, 1, RESULT, 0.0]]}, [b"r", b""])
            assert exchange.handle(self.writer.service, call).status == 200

    def errors(self, request: int) -> list[str]:
        return [outcome.value.decode() for _, outcome in self.storage.errors(request)]

    def note(self, request: int) -> str:
        return self.storage.progress(request).note

    def state(self, request: int) -> RequestState:
        return self.storage.get_request(request).state


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    """A PATH without a scheduler, and a home."""
    place = tmp_path / "head"
    place.mkdir()
    head = Head(place, monkeypatch)
    (head.home / "no cache").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(head.home / "no cache"))  # turns are taken in real time: see test_turns.py
    return head


@pytest.fixture
def farm(tmp_path: Path, head: Head) -> Iterator[Farm]:
    with Storage(tmp_path / "db") as storage:
        yield Farm(storage, head.home)


# Requests whose maker has ended


@pytest.fixture
def ended() -> dict[str, Any]:
    """The signature of a process that has ended."""
    words = "import json; from sheepdog.values import identity as process; print(json.dumps(process.sign()))"
    return dict(json.loads(subprocess.check_output([sys.executable, "-c", words])))


@fault(40, "a client that dies before the array job is submitted", promise="the request ends with that reason")
def test_a_request_whose_maker_has_ended_is_ended(farm: Farm, ended: dict[str, Any]) -> None:
    lost = farm.request("", maker=ended)
    being_made = farm.request("", maker=process.sign())
    elsewhere = farm.request("", maker={**ended, "space": "pid:[1]"})
    farm.look()
    assert farm.storage.requests(*OPEN) == [being_made, elsewhere]
    assert farm.errors(lost)[0] == "not run: the program that made the request ended before it was submitted"


@fault(40, "the client is killed after qsub took the job", promise="the job is found, and its results come")
def test_an_array_job_whose_maker_has_ended_is_found(farm: Farm, ended: dict[str, Any]) -> None:
    request = farm.request("", maker=ended)
    array = farm.array(request)
    farm.paddock(request, Paddock())
    (Path(array.directory) / "job_id").write_text("4711.1-2:1\n")
    farm.look()
    assert farm.state(request) == RequestState.NEW  # the answer may still come
    farm.look(LATE_ANSWER)
    assert farm.state(request) == RequestState.SUBMITTED
    assert farm.storage.arrays(request) == [replace(array, job="4711")]
    farm.finish(request)
    assert farm.storage.progress(request).done == 2


@fault(40, "the client is killed before qsub took the job", promise="the request ends, and says so")
def test_an_array_job_that_was_never_submitted(farm: Farm, ended: dict[str, Any]) -> None:
    request = farm.request("", maker=ended)
    farm.array(request)
    paddock = farm.paddock(request, Paddock())
    farm.look()
    paddock.error = HostError("does not answer")
    farm.look(LATE_ANSWER)
    assert farm.state(request) == RequestState.NEW  # nobody knows
    paddock.error = None
    farm.look(AGAIN + LATE_ANSWER)
    assert farm.errors(request)[0].endswith("ended before it was submitted")


def test_the_array_jobs_of_an_earlier_attempt_are_not_taken_for_the_one_that_was_not_submitted(
    farm: Farm, ended: dict[str, Any]
) -> None:
    """Their directories are there still, with the job's number."""
    request = farm.request("7")
    farm.paddock(request, Paddock())
    (farm.directory(request) / "job_id").write_text("7.1-2:1\n")
    farm.storage.end_pending(request, Kind.CANCELLED, "cancelled")
    farm.look()
    options = {**farm.storage.get_request(request).options, "maker": ended}
    assert farm.storage.retry(request, options, failed=True) == 2
    farm.look()
    assert farm.errors(request)[0].endswith("ended before it was submitted")


# When it asks


@fault("polite", "many requests at once", promise="one question to each head node answers for all")
def test_one_question_for_all_requests_of_a_head_node(farm: Farm) -> None:
    paddock = farm.paddock(farm.request("1"), Paddock())
    farm.request("2")
    farm.request("3")
    other = farm.paddock(farm.request("4", host="another"), Paddock())
    farm.look()
    assert paddock.asked == [["1", "2", "3"]]
    assert other.asked == [["4"]]
    assert farm.thread.context.questions == 2


@fault("polite", "many requests at once", promise="one status query at most in an interval, counted in the log")
def test_not_more_often_than_the_interval(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    paddock = farm.paddock(farm.request("1"), Paddock())
    for later in (0, 1, INTERVAL - 2, 1 / 2):
        farm.look(later)
    assert len(paddock.asked) == 1
    farm.request("2")
    farm.look(1)
    assert paddock.asked == [["1"], ["1", "2"]]
    assert "status query 2, for 2 requests on" in caplog.text


@fault("polite", "two servers of one user watch one head node", promise="one status query at most in an interval")
def test_two_servers_take_turns(tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked, waits = 0, []
    for name in ("first", "second"):
        with Storage(tmp_path / name) as storage:
            (head.home / name).mkdir()
            farm = Farm(storage, head.home / name)
            request = farm.request("1")
            paddock = farm.paddock(request, Paddock())
            for _ in range(3):
                farm.look()
            asked += len(paddock.asked)
            waits.append(farm.node(request).not_before - time.monotonic())
    assert asked == 1
    assert waits[1] == pytest.approx(INTERVAL, abs=2)


def test_more_rarely_while_the_workers_say_enough_themselves(farm: Farm) -> None:
    request = farm.request("1")
    paddock = farm.paddock(request, Paddock())
    for element in "12":
        farm.call(request, element, element)
    farm.look()
    assert len(paddock.asked) == 1
    for _ in range(RARELY - 1):
        farm.look(INTERVAL)
    assert len(paddock.asked) == 1
    farm.look(INTERVAL + 1)
    assert len(paddock.asked) == 2


@pytest.mark.parametrize("why", ["a worker that was not heard", "a job that is gone"])
def test_not_more_rarely_if_one_request_needs_an_answer(farm: Farm, why: str) -> None:
    """What the scheduler says of a job that is gone must be said twice."""
    first, second = farm.request("1"), farm.request("2")
    paddock = farm.paddock(first, Paddock())
    for element in "12":
        farm.call(first, element, element)
        if why != "a worker that was not heard" or element == "1":
            farm.call(second, element, element)
    if why == "a job that is gone":
        paddock.answers = {"2": JobStatus()}
    for _ in range(2):
        farm.look(INTERVAL + 1)
    assert len(paddock.asked) == 2


@pytest.mark.parametrize(("poll_interval", "first"), [(30.0, FIRST), (2.0, 2.0)])
def test_the_first_question_waits_for_the_job_to_show(farm: Farm, poll_interval: float, first: float) -> None:
    request = farm.request("1", host="nowhere.invalid", poll_interval=poll_interval)
    farm.look()
    node = farm.node(request)
    assert node.asked + poll_interval - farm.now == pytest.approx(first)
    assert farm.thread.context.questions == 0


def test_a_request_that_was_not_submitted_yet_is_not_asked_about(farm: Farm) -> None:
    request = farm.request("")
    paddock = farm.paddock(request, Paddock())
    array = farm.array(request)
    farm.look()
    assert paddock.asked == []
    farm.storage.set_submitted(request, replace(array, job="12"))
    farm.look()
    assert paddock.asked == [["12"]]


@fault(42, "the scheduler does not answer", promise="it is asked less and less often; running work is not touched")
@pytest.mark.parametrize("error", [HostError("head does not answer"), SchedulerError("no XML"), OSError("surprise")])
def test_a_head_node_that_does_not_answer_is_asked_less_and_less_often(
    farm: Farm, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    request = farm.request("1")
    paddock = farm.paddock(request, Paddock())
    node = farm.node(request)
    paddock.error = error
    pauses = []
    for _ in range(8):
        farm.look(LONGEST)
        pauses.append(round(node.not_before - time.monotonic()))
    assert len(paddock.asked) == 8
    assert pauses[0] > INTERVAL
    assert pauses == sorted(pauses)
    assert max(pauses) == pytest.approx(LONGEST, abs=1)
    assert str(error) in caplog.text
    paddock.error = None
    farm.look(LONGEST)
    assert node.asked - time.monotonic() == pytest.approx(0, abs=1)
    farm.look(INTERVAL)
    assert len(paddock.asked) == 10
    assert farm.errors(request) == []


@fault(
    "qmaster down", "the scheduler does not answer for long", promise="who waits for results reads so, and since when"
)
def test_a_scheduler_that_does_not_answer_is_told_to_who_waits(farm: Farm) -> None:
    request = farm.request("1")
    paddock = farm.paddock(request, Paddock())
    paddock.error = SchedulerError("qmaster is down")
    farm.look()
    assert farm.note(request) == ""  # workers may come any moment
    later(farm, minutes=2)
    farm.look()
    assert re.fullmatch(r"the scheduler has not answered since \d\d:\d\d: qmaster is down", farm.note(request))
    paddock.error = None
    farm.look(LONGEST)
    farm.join(request)
    farm.look()
    assert farm.note(request) == ""


def later(farm: Farm, minutes: float) -> None:
    """Set the service's clock forward."""
    farm.writer.service.clock = lambda: time.monotonic() + 60 * minutes


@fault(42, "one head node of two does not answer", promise="the other is asked as before")
@pytest.mark.parametrize("error", [HostError("does not answer"), OSError("surprise")])
def test_what_is_wrong_on_one_head_node_does_not_stand_in_the_way_of_another(farm: Farm, error: Exception) -> None:
    first, second = (farm.paddock(farm.request(job, host=job), Paddock()) for job in ("one", "two"))
    first.error = error
    farm.look()
    assert second.asked == [["two"]]


# What it makes of the answer


@fault("qdel all", "the array job is deleted before a worker has called", promise="the request ends, with the reason")
def test_what_the_scheduler_says_is_heeded(farm: Farm) -> None:
    request = farm.request("1")
    other = farm.request("2")
    paddock = farm.paddock(request, Paddock())
    farm.look()
    paddock.answers = {"1": JobStatus(reason="it was deleted")}
    (farm.directory(request) / "herd.e1.1").write_text("  worker: no python here\n")
    farm.look(INTERVAL)
    assert farm.errors(request) == []  # it may be wrong once
    farm.look(2 * INTERVAL)
    assert farm.errors(request)[0].startswith("not run: ")
    assert "it was deleted; the last line of its output is: worker: no python here" in farm.errors(request)[0]
    assert farm.errors(other) == []


@fault((38, "Eqw"), "the array job is in error", promise="the request ends with the scheduler's reason")
def test_a_job_in_error_ends_its_request(farm: Farm) -> None:
    request = farm.request("1")
    paddock = farm.paddock(request, Paddock())
    paddock.answers = {"1": JobStatus(broken=True, reason="Eqw: can't chdir")}
    farm.look()
    assert farm.errors(request) == ["not run: Eqw: can't chdir"] * 2


@fault((44, "max_aj_instances"), "workers wait for ever", promise="the scheduler's reason is shown")
def test_workers_that_wait_for_long_are_explained(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    request = farm.request("1")
    paddock = farm.paddock(request, Paddock())
    paddock.answers = {"1": JobStatus(pending=2)}
    paddock.why = "All queues dropped because of overload or full"
    farm.look()
    assert paddock.explained == []  # they have not waited for long
    monkeypatch.setattr(asking, "PUZZLING", 0)
    farm.look(INTERVAL)
    assert paddock.explained == ["1"]
    later(farm, minutes=2)
    farm.look()
    assert farm.note(request) == f"2 workers wait in the queue of head (array job 1): {paddock.why}"
    paddock.answers = {"1": JobStatus(pending=1, running=frozenset("1"))}
    farm.look(INTERVAL)
    assert paddock.explained == ["1"]


@fault("hold", "the array job is on hold", promise="who waits for results reads so; nothing is given up")
def test_a_job_on_hold(farm: Farm) -> None:
    request = farm.request("1")
    paddock = farm.paddock(request, Paddock())
    paddock.answers = {"1": JobStatus(pending=2, held=True)}
    for _ in range(3):
        farm.look(INTERVAL)
    assert farm.note(request) == "2 workers wait in the queue of head (array job 1, on hold)"
    assert farm.errors(request) == []


# What workers left behind


def left(farm: Farm, request: int, name: str, outcomes: Sequence[tuple[int, bytes]]) -> None:
    """Write the file of a worker that had to end before it could deliver its outcomes."""
    values = [part for _, value in outcomes for part in (value, b"")]
    header = {"worker": name.partition("-")[0], "host": "node", "pid": 1, "element": "1", "array": 1, "call": 7}
    header.update(want=0, holding=[], outcomes=[[task, 1, RESULT, 0.5] for task, _ in outcomes])
    spool = farm.directory(request) / "spool"
    spool.mkdir(exist_ok=True)
    (spool / name).write_bytes(pack(header, [len(value) for value in values]) + b"".join(values))


@fault(
    (45, 46), "a worker has to end while the server cannot be reached", promise="its outcomes are collected from there"
)
def test_outcomes_that_a_worker_could_not_deliver_are_collected(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    request = farm.request("1", tasks=4)
    paddock = farm.paddock(request, Paddock())
    left(farm, request, "ab12-1", [(1, b"one"), (2, b"two")])
    left(farm, request, "ab12-2", [(2, b"another"), (3, b"three")])
    left(farm, request, "cd34-1", [(9, b"no such task")])
    spool = farm.directory(request) / "spool"
    whole = (spool / "ab12-1").read_bytes()
    for name, content in {
        "e0-1": b"",
        "e0-2": whole[:10],
        "e0-3": whole[:-2],
        "e0-4": pack({"outcomes": []}, []),
        "e0-5": b"\xff" * 100,
        "e0-6": pack({"worker": 1, "outcomes": 3, "want": "x", "call": 1, "holding": []}, []),
        "not ours": whole,
        "ab-1.new": whole,
    }.items():
        (spool / name).write_bytes(content)
    farm.look()
    assert farm.storage.progress(request).done == 0  # it runs: nothing is complete yet
    paddock.answers = {"1": JobStatus(reason="gone")}
    farm.look(INTERVAL)
    assert list(farm.storage.results(request)) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert caplog.text.count("a file of outcomes is damaged") == 6
    assert sorted(file.name for file in spool.iterdir()) == ["ab-1.new", "not ours"]


def test_without_a_spool_and_without_a_directory_nothing_is_collected(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = farm.request("1"), farm.request("2")
    paddock = farm.paddock(first, Paddock())
    subprocess.run(["rm", "-r", farm.directory(second)], check=True)
    paddock.answers = dict.fromkeys(("1", "2"), JobStatus(reason="gone"))
    for _ in range(2):
        farm.look(INTERVAL)
    assert [farm.state(request) for request in (first, second)] == [RequestState.ENDED] * 2
    assert f"request {first}: what its workers left" not in caplog.text
    assert f"request {second}: what its workers left cannot be collected" in caplog.text


# Workers are submitted again


class GridEngine:
    """Programs on the PATH: a qsub that counts, and a qstat that lists what is said to run."""

    def __init__(self, head: Head) -> None:
        self.head = head
        last = head.bin / "last"
        count = f"n=$(($(cat '{last}' 2>/dev/null || echo 100) + 1)); echo $n >'{last}'"
        self.program("qsub", f'{count}\necho "$n.1-2:1"')
        self.program("qstat", f"cat '{head.bin}/listed.xml'")
        self.program("qacct", "exit 1")
        self.program("qdel", "true")
        self.list()

    def program(self, name: str, script: str) -> None:
        file = self.head.bin / name
        file.write_text(f"#!/bin/sh\necho {name} \"$@\" >>'{self.head.log}'\n{script}\n")
        file.chmod(0o755)

    def refuse(self, words: str, status: int = 1) -> None:
        self.program("qsub", f"echo '{words}' >&2; exit {status}")

    def list(self, *jobs: str) -> None:
        entries = "".join(
            f'<job_list state="running"><JB_job_number>{job}</JB_job_number><state>r</state><tasks>{element}</tasks>'
            "</job_list>"
            for job in jobs
            for element in "12"
        )
        text = f"<?xml version='1.0'?><job_info><queue_info>{entries}</queue_info></job_info>"
        (self.head.bin / "listed.xml").write_text(text)

    def ran(self, program: str) -> int:
        return sum(line.startswith(f"{program} ") for line in self.head.ran)


@pytest.fixture
def gridengine(head: Head, monkeypatch: pytest.MonkeyPatch) -> GridEngine:
    monkeypatch.setattr(submission, "PAUSE", 0.01)
    monkeypatch.setattr(submission, "PATIENCE", 0.0)
    return GridEngine(head)


@fault((35, 36), "all workers end before the tasks", promise="others are submitted, and go on; who waits reads so")
def test_workers_are_submitted_again(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None)
    farm.call(request, want=1)
    gridengine.list("7")
    farm.look()
    farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 0
    gridengine.list()
    for _ in range(3):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 1
    first, second = farm.storage.arrays(request)
    assert first.ended is not None
    assert (second.job, second.number, second.workers, second.ended) == ("101", 2, 2, None)
    secret = json.loads((Path(second.directory) / "secret.json").read_text())
    assert (secret["array"], secret["token"]) == (2, farm.storage.get_request(request).token)
    assert secret["urls"] == list(second.urls)
    assert all(url.endswith(":4000") for url in second.urls)
    assert "2 workers are submitted again (1 of 3 times in a row)" in farm.note(request)
    gridengine.list("101")
    assert farm.call(request, "new", "1", 2, want=2)["tasks"]
    for _ in range(3):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 1


@pytest.mark.parametrize("resubmissions", [0, 2])
def test_workers_are_submitted_again_so_often_and_no_oftener(
    farm: Farm, gridengine: GridEngine, resubmissions: int
) -> None:
    request = farm.request("7", host=None, resubmissions=resubmissions)
    farm.call(request)
    for _ in range(20):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == resubmissions
    times = f" {resubmissions + 1} times in a row" if resubmissions else ""
    assert farm.errors(request)[0].startswith(f"not run: its workers have ended{times}; the last time the array job")
    assert str(farm.storage.arrays(request)[-1].directory) in farm.errors(request)[0]


def test_workers_that_were_of_use_for_long_start_the_count_anew(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None, resubmissions=1)
    farm.call(request)
    while gridengine.ran("qsub") < 1:
        farm.look(INTERVAL)
    later(farm, minutes=LASTING / 60 + 1)
    header = {"worker": "w2", "element": "1", "array": 2, "call": 1, "want": 0, "holding": []}
    call = Call(request, "exchange", {**header, "outcomes": [[1, 1, RESULT, 0.0]]}, [b"r", b""])
    assert exchange.handle(farm.writer.service, call).status == 200
    while not farm.errors(request):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 2
    assert farm.storage.progress(request).done == 1


@fault(42, "the scheduler is down when workers are to be submitted again", promise="that is tried on, and shown")
def test_a_scheduler_that_is_down_costs_no_submission(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None, resubmissions=1)
    farm.call(request)
    gridengine.refuse("error: commlib error: got select error (Connection refused)")
    while gridengine.ran("qsub") < 1:
        farm.look(INTERVAL)
    for _ in range(3):
        farm.look(INTERVAL)
    tries = gridengine.ran("qsub")
    assert "workers cannot be submitted again: qsub on this machine refused" in farm.note(request)
    for minutes in (1, 5):  # longer and longer pauses
        later(farm, minutes)
        farm.look(INTERVAL)
        assert gridengine.ran("qsub") > tries
        tries = gridengine.ran("qsub")
    assert farm.errors(request) == []
    GridEngine(gridengine.head)
    later(farm, 60)
    farm.look(INTERVAL)
    assert farm.storage.arrays(request)[-1].job == "101"


@fault(41, "the scheduler refuses workers that are to be submitted again", promise="it is not asked for ever")
def test_a_scheduler_that_refuses_ends_the_request(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None, resubmissions=2)
    farm.call(request)
    gridengine.refuse("Unable to run job: your quota is used up")
    for minutes in range(60):
        later(farm, minutes)
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 2
    assert (
        "the last time qsub on this machine refused the job: Unable to run job: your quota" in farm.errors(request)[0]
    )


def test_a_request_that_ended_while_its_workers_were_submitted(farm: Farm, gridengine: GridEngine) -> None:
    """They are taken away."""
    request = farm.request("7", host=None)
    farm.call(request)
    qsub = gridengine.head.bin / "qsub"
    qsub.write_text(qsub.read_text() + f"while [ ! -e '{gridengine.head.bin}/go' ]; do sleep 0.01; done\n")
    submitting = threading.Thread(target=lambda: [farm.look(INTERVAL) for _ in range(3)])
    farm.storage.db  # noqa: B018 (opened here; used by one thread at a time)
    submitting.start()
    until(lambda: gridengine.ran("qsub"), "it submits")
    with Storage(farm.storage.dbfile) as other:
        other.end_pending(request, Kind.CANCELLED, "cancelled by its user")
    (gridengine.head.bin / "go").touch()
    submitting.join()
    assert "qdel 101" in gridengine.head.ran


# The port has changed


@fault((19, "port taken"), "the server has moved to another port", promise="its workers' secret tells them where")
def test_workers_are_told_of_another_port(farm: Farm) -> None:
    request = farm.request("1", localhost="me")
    farm.paddock(request, Paddock())
    secret = farm.directory(request) / "secret.json"
    farm.look()
    assert secret.read_text() == "{}"  # they know it
    farm.storage.set_settings(port=5000)
    farm.thread.context.port = 0
    old = os.umask(0)
    try:
        farm.look()
    finally:
        os.umask(old)
    said = json.loads(secret.read_text())
    assert said["urls"] == ["https://me:5000"]
    assert (said["array"], said["certificate"]) == (1, "CERTIFICATE")
    assert said["token"] == farm.storage.get_request(request).token
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in secret.parent.iterdir()] == ["secret.json"]
    assert farm.storage.arrays(request)[0].urls == ("https://me:5000",)
    secret.write_text("{}")
    farm.look()
    assert secret.read_text() == "{}"  # once is enough


def test_workers_are_told_as_soon_as_their_host_answers(farm: Farm) -> None:
    request = farm.request("1", localhost="me")
    paddock = farm.paddock(request, Paddock())
    farm.storage.set_settings(port=5000)
    paddock.error = HostError("does not answer")
    farm.look()
    runs = paddock.runs
    farm.look()
    assert paddock.runs == runs  # not again at once
    paddock.error = None
    farm.look(LONGEST)
    assert "https://me:5000" in (farm.directory(request) / "secret.json").read_text()


# What it clears up


@pytest.mark.parametrize(("elements", "cancelled"), [("11", ["7"]), ("12", [])])
def test_elements_that_never_started_are_taken_away(farm: Farm, elements: str, cancelled: list[str]) -> None:
    request = farm.request("7")
    paddock = farm.paddock(request, Paddock())
    farm.look()
    farm.finish(request, elements)
    for _ in range(2):
        farm.look()
    assert paddock.cancelled == cancelled
    assert farm.state(request) == RequestState.CLOSED


@fault(51, "a secret lies on the cluster", promise="it goes when its request has ended; what the workers said stays")
def test_the_secret_goes_and_the_workers_words_stay(farm: Farm) -> None:
    request = farm.request("7")
    farm.paddock(request, Paddock())
    (farm.directory(request) / "herd.e7.1").write_text("words")
    farm.finish(request)
    farm.look()
    assert [file.name for file in farm.directory(request).iterdir()] == ["herd.e7.1"]


def test_a_request_that_ended_before_it_was_noticed_is_cleared_up_too(farm: Farm) -> None:
    request = farm.request("7")
    paddock = farm.paddock(request, Paddock())
    farm.finish(request)
    farm.look()
    assert paddock.cancelled == ["7"]
    assert paddock.asked == []


@fault("cancel", "the user cancels a request", promise="its array job is deleted")
def test_the_array_job_of_a_cancelled_request_is_deleted(farm: Farm) -> None:
    request = farm.request("7")
    paddock = farm.paddock(request, Paddock())
    farm.call(request, "w1", "1")
    farm.call(request, "w2", "2")
    assert farm.storage.end_pending(request, Kind.CANCELLED, "cancelled by its user") == 2
    farm.look()
    assert paddock.cancelled == ["7"]
    assert farm.state(request) == RequestState.CLOSED


def test_what_is_left_of_local_workers_is_removed_unless_it_tells_why(farm: Farm) -> None:
    done, lost = farm.request("7", scheduler="local"), farm.request("8", scheduler="local")
    paddock = farm.paddock(done, Paddock(1.0))
    paddock.name = "local"
    farm.finish(done)
    farm.look()
    assert not farm.directory(done).exists()
    paddock.answers["8"] = JobStatus(reason="its processes ended")
    for _ in range(3):
        farm.look(1)
    assert "its processes ended" in farm.errors(lost)[0]
    assert farm.directory(lost).exists()
    assert list(farm.directory(lost).iterdir()) == []


def test_what_cannot_be_cleared_up_is_tried_again_and_does_not_stand_in_the_way(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = farm.request("1", host="first"), farm.request("2", host="second")
    broken, sound = farm.paddock(first, Paddock()), farm.paddock(second, Paddock())
    broken.error = HostError("does not answer")
    for request in (first, second):
        farm.finish(request)
    farm.look()
    assert sound.cancelled == ["2"]
    farm.look()  # not again at once
    assert farm.thread.clearing.tries[first][0] == 1
    broken.error = None
    farm.look(10)
    assert broken.cancelled == ["1"]
    assert "stays" not in caplog.text
    assert farm.state(first) == RequestState.CLOSED


def test_what_can_never_be_cleared_up_is_left_in_the_end(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    request = farm.request("1")
    farm.paddock(request, Paddock()).error = HostError("does not answer")
    farm.finish(request)
    for _ in range(CLEAR_JOBS_TRIES):
        assert farm.state(request) == RequestState.ENDED
        farm.look(1000)
    assert farm.state(request) == RequestState.CLOSED
    assert "what is left of its array job stays: does not answer" in caplog.text


# The thread


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
        paddock = farm.paddock(request, Paddock())
        farm.thread._over.set()
        farm.thread.start()
        farm.thread.join()
        farm.finish(request)
        farm.thread.stop()
    assert paddock.cancelled == ["7"]


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
