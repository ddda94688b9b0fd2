"""Many jobs at once: the dispatcher."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from sheepdog import Job, Storage
from sheepdog.errors import JobError
from sheepdog.front.results import results
from sheepdog.values.model import Kind, Request

from .schedulers import as_scheduler, best_available, join


class JobDispatcher:
    """Runs jobs together, and collects their results. scheduler is one, or a class or a function that makes one."""

    def __init__(self, scheduler: object = best_available) -> None:
        self.scheduler = as_scheduler(scheduler)
        self.request: tuple[int, str] | None = None
        self.jobs: list[Job] = []
        self.given: list[Any] | None = None  # the results, once they have been given: the store need not have them

    def dispatch(self, jobs: Iterable[Job]) -> None:
        """Start jobs. Returns as soon as the scheduler has them. RuntimeError if the last ones have not ended."""
        if self.request is not None and not self.finished:
            raise JobError("the jobs that were dispatched last have not ended: join() them before the next dispatch()")
        jobs = list(jobs)
        self.request = self.scheduler.schedule(jobs)
        self.jobs, self.given = jobs, None

    def join(self, timeout: float | None = None, reraise: bool = False) -> list[Any]:
        """Wait, and return the results in the order of the jobs; for a job that failed, its exception.

        If reraise, the first of these is raised instead. Raises TimeoutError if jobs have not ended after so many
        seconds: they go on. RuntimeError if nothing has been dispatched.
        """
        if self.request is None:
            raise JobError("nothing has been dispatched: call dispatch(jobs) first")
        join(self.request, timeout)
        if self.given is None:
            self.given = results(*self.request, reraise, deliver=True)
            for job, value in zip(self.jobs, self.given, strict=True):
                job._given = (value,)
        failed = self._failed if reraise else []
        if failed:
            raise self.given[failed[0] - 1]
        return list(self.given)

    @property
    def _failed(self) -> list[int]:
        request_id, database = self.request or (0, "")
        with Storage(database, make=False) as storage:
            outcomes = storage.outcomes(request_id, [(1, len(self.jobs))])
            return [outcome.task for outcome in outcomes if outcome.kind != Kind.RESULT]

    @property
    def finished(self) -> bool:
        """Whether jobs have been dispatched, and all have ended."""
        request = self._request
        return request is not None and request.ended is not None

    @property
    def address(self) -> str | None:
        """The address that the workers call; None before the first dispatch."""
        if self.request is None:
            return None
        request_id, database = self.request
        with Storage(database, make=False) as storage:
            return next((url for array in storage.arrays(request_id) for url in array.urls), None)

    @property
    def start_time(self) -> float | None:
        """When the jobs were dispatched, in seconds since 1970; None before."""
        request = self._request
        return None if request is None else request.created

    @property
    def end_time(self) -> float | None:
        """When the last of them had ended; None before."""
        request = self._request
        return None if request is None else request.ended

    @property
    def elapsed_time(self) -> float | None:
        """The seconds between these two times, or until now; None before the first dispatch."""
        request = self._request
        return None if request is None else (request.ended or time.time()) - request.created

    @property
    def _request(self) -> Request | None:
        if self.request is None:
            return None
        request_id, database = self.request
        with Storage(database, make=False) as storage:
            return storage.get_request(request_id)
