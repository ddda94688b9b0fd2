"""Requests on head nodes: real decisions over a real store, and this machine as the head node.

Only the scheduler is a small object, or a program on the PATH.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from sheepdog.client import PROTOCOL, RESULT, describe_python
from sheepdog.config import Config
from sheepdog.config.options import Options
from sheepdog.deployment import Host, LocalHost
from sheepdog.deployment.job_directory import MARK
from sheepdog.schedulers.gridengine import parse_qsub
from sheepdog.schedulers.job_file import Job
from sheepdog.schedulers.site import Site
from sheepdog.server.calls import Call
from sheepdog.server.decide import clock, exchange
from sheepdog.server.decide.service import Service
from sheepdog.server.scheduling.nodes import HeadNode, head_key
from sheepdog.server.scheduling.thread import Scheduling
from sheepdog.server.scheduling.watcher import Watcher
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, End, JobStatus, RequestState
from sheepdog.values.serialisation import form

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


class FakeScheduler:
    """A Scheduler that keeps what it was asked; and a Host that may be out of reach."""

    name = "gridengine"
    notice = 50.0

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self.asked: list[list[str]] = []
        self.cancelled: list[str] = []
        self.answers: dict[str, JobStatus] = {}
        self.silent: set[str] = set()  # the jobs of which it says nothing
        self.why = ""
        self.explained: list[str] = []
        self.never = ""
        self.error: Exception | None = None
        self.gone: set[str] = set()  # the names of the jobs that it does not have any more
        self.runs = 0

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        self.runs += 1
        if self.error:
            raise self.error
        return LocalHost().run(command, input, timeout)

    def site(self, host: Host, config: Config) -> Site:
        raise NotImplementedError

    def avoid(self, config: Config, hosts: Sequence[str]) -> Config:
        return config

    def ends(self, host: Host, job: str) -> Sequence[End]:
        return self.answers[job].ends

    def files(self, job: Job, config: Config, site: Site | None = None) -> dict[str, bytes]:
        raise NotImplementedError

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        raise NotImplementedError

    def job_id(self, text: str) -> str:
        return parse_qsub(text)

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        self.asked.append(list(jobs))
        if self.error:
            raise self.error
        return {job: self.answers.get(job, RUNNING) for job in self.asked[-1] if job not in self.silent}

    def hopeless(self, host: Host, job: str) -> str:
        return self.never

    def explain(self, host: Host, job: str) -> str:
        self.explained.append(job)
        return self.why

    def cancel(self, host: Host, jobs: Sequence[ArrayJob]) -> bool:
        if self.error:
            raise self.error
        self.cancelled += [job.job for job in jobs if job.name not in self.gone]
        return any(job.name not in self.gone for job in jobs)


class Farm:
    def __init__(self, storage: Storage, home: Path) -> None:
        self.storage = storage
        self.home = home
        self.writer = Inline(storage)
        self.thread = Scheduling(self.writer)
        self.heads: dict[tuple[Any, ...], HeadNode] = {}  # those that were put there
        self.now = time.monotonic()
        storage.set_settings(port=4000, certificate="CERTIFICATE")

    def request(self, job: str, host: str | None = "head", tasks: int = 2, **options: Any) -> int:
        """Store a request with this array job, the host it is on, and the job's directory."""
        options = {"scheduler": "gridengine", "host": host, "poll_interval": INTERVAL, "lease": 150.0} | options
        options = {"link": "direct"} | options  # what has to do with relays says so
        request = self.storage.new_request(b"f", b"", [b"1"] * tasks, form=form(), options=options)
        if job:
            self.storage.set_submitted(request, replace(self.array(request), job=job))
        return request

    def array(self, request: int, workers: int = 2) -> ArrayJob:
        """Note an array job that is about to be submitted, and make its directory."""
        number = len(self.storage.arrays(request)) + 1
        directory = self.home / ".sheepdog" / f"herd_{request:03d}_{number:08x}"
        directory.mkdir(parents=True)
        (directory / "secret.json").write_text("{}")
        (directory / MARK).write_text(f"{directory.name}\n")
        urls = ("https://me:4000",)
        return self.storage.new_array(request, ArrayJob(0, directory.name, str(directory), workers, urls=urls))

    def directory(self, request: int) -> Path:
        return Path(self.storage.arrays(request)[0].directory)

    def put(self, request: int, fake: FakeScheduler) -> FakeScheduler:
        """Put what is asked in the place of the real one, as if it had been asked long ago."""
        options = self.options(request)
        node = HeadNode(replace(options, config=replace(options.config, scheduler="gridengine")), 0.0)
        node.host = node.scheduler = fake
        self.heads[head_key(options)] = self.watcher(request).context.head = node
        return fake

    def watcher(self, request: int) -> Watcher:
        """Return the watcher of a request's head node; made, if there is none."""
        key = head_key(self.options(request))
        return self.thread.watchers.setdefault(key, Watcher(self.writer, key))

    def node(self, request: int) -> HeadNode:
        node = self.watcher(request).context.head
        assert node
        return node

    def put_off(self) -> set[str]:
        """The directories that are left to the next server."""
        return self.writer.service.put_off

    def options(self, request: int) -> Options:
        return Options.read(self.storage.get_request(request).options)

    def look(self, later: float = 0.0) -> None:
        clock.tick(self.writer.service)
        self.now = max(self.now, time.monotonic()) + later
        self.thread.look()
        for key, watcher in list(self.thread.watchers.items()):
            watcher.context.head = watcher.context.head or self.heads.get(key)
            watcher.look(self.now)

    def later(self, minutes: float) -> None:
        """Set the service's clock forward."""
        self.writer.service.clock = lambda: time.monotonic() + 60 * minutes

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
