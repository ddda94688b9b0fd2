"""Unfinished requests to try questions out on: plain memory, with no store."""

from typing import Any

from sheepdog.config.options import Options
from sheepdog.server.decide.live import LiveRequest
from sheepdog.server.decide.policy import Policy
from sheepdog.server.decide.queue import Queue
from sheepdog.server.decide.workers import Element, WorkerSeen
from sheepdog.values.model import ArrayJob, JobStatus, Request, RequestState

LEASE = 150.0


def make_live(tasks: int = 100, arrays: tuple[ArrayJob, ...] = (), said: int | None = None, **past: Any) -> LiveRequest:
    request = Request(1, "n", RequestState.SUBMITTED, "t", {}, {}, tasks, 0.0, 0.0, 0, False)
    options = Options.read({"host": "hive", "workers": said})
    live = LiveRequest(request, options, Queue([(1, tasks)], LEASE, **past), Policy(), 0.0)
    for each in arrays:
        live.add_array(each)
    return live


def array(number: int = 1, workers: int = 4, level: int = 0, **other: Any) -> ArrayJob:
    return ArrayJob(number, "n", "d", workers, level, **{"job": f"job{number}", "urls": ("https://here:1",), **other})


def call(live: LiveRequest, name: int, number: int = 1, level: int = 0, heard: float = 0.0, **other: Any) -> WorkerSeen:
    """Let a worker call from an element, and be named after it."""
    seen = WorkerSeen("node", Element(number, str(name)), heard, level, **other)
    live.workers.add(f"{number}.{name}", seen)
    return seen


def says(*running: int, pending: int = 0, **other: Any) -> JobStatus:
    return JobStatus(pending, frozenset(map(str, running)), **other)


def hear(live: LiveRequest, status: JobStatus, number: int = 1, times: int = 1) -> None:
    """Let the scheduler speak of an array job, and be believed about elements that are said to run."""
    for _ in range(times):
        live.hear(number, status, 0.0, float("inf"))


def lose(live: LiveRequest, *names: int, number: int = 1) -> None:
    """Let workers call from elements, and be lost."""
    for name in names:
        call(live, name, number)
        live.workers.lose(f"{number}.{name}")
