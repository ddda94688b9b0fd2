"""The thread that decides and commits for everyone: many calls, one transaction, then the replies."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from .errors import RequestNotFound, StorageError
from .server import file_number
from .service import Service
from .storage import Storage

log = logging.getLogger(__name__)

GROUP = 64  # calls in one commit
CLOCK_JUMP = 30.0  # a pause of the process so long means that nobody could be heard


class Writer(threading.Thread):
    """The thread in which the service lives. What it is given runs there, in one transaction with its neighbours."""

    def __init__(self, dbfile: str) -> None:
        super().__init__(name="writer", daemon=True)
        self.dbfile = dbfile
        self.jobs: queue.SimpleQueue[tuple[Callable[[Service], Any], Future[Any]] | None] = queue.SimpleQueue()
        self.unfinished: list[int] = []
        self.idle_since = time.monotonic()
        self.over = threading.Event()

    def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
        """Have a decision made; its future is set after the commit."""
        future: Future[Any] = Future()
        self.jobs.put((decide, future))
        if self.over.is_set():
            self._turn_away()
        return future

    def stop(self) -> None:
        """Finish what was submitted, then end."""
        self.jobs.put(None)
        self.join()

    def run(self) -> None:
        """Decide, commit, reply; once a second, look at the clock."""
        try:
            self._run()
        finally:
            self.over.set()
            self._turn_away()

    def _turn_away(self) -> None:
        """Fail what nobody will decide any more."""
        with suppress(queue.Empty):
            while True:
                job = self.jobs.get_nowait()
                if job is not None:
                    job[1].set_exception(StorageError("the server is ending"))

    def _run(self) -> None:
        with Storage(self.dbfile) as storage:
            storage.checkpoint_by_itself()
            storage.initdb()
            served = file_number(self.dbfile)
            service = Service(storage, time.monotonic)
            ticked = 0.0
            while True:
                group = self._next_group()
                service = self._decide(service, [job for job in group if job])
                if None in group:
                    return
                now = time.monotonic()
                if now - ticked > CLOCK_JUMP:
                    service.renew_all()
                if now - ticked > 1.0:
                    with suppress(StorageError):
                        service.tick()
                        self.unfinished = storage.unfinished()
                    if file_number(self.dbfile) != served:
                        log.warning("%s has been removed", self.dbfile)
                        return
                    if self.unfinished:
                        self.idle_since = now
                    ticked = now

    def _next_group(self) -> list[tuple[Callable[[Service], Any], Future[Any]] | None]:
        group = []
        with suppress(queue.Empty):
            group.append(self.jobs.get(timeout=1.0))
            while len(group) < GROUP:
                group.append(self.jobs.get_nowait())
        return group

    def _decide(self, service: Service, group: list[tuple[Callable[[Service], Any], Future[Any]]]) -> Service:
        """Decide a group in one transaction. Return the service; another one if what it remembers was not committed."""
        answers: list[Any] = []
        if not group:
            return service
        try:
            with service.storage.transaction():
                for decide, _ in group:
                    try:
                        answers.append(decide(service))
                    except RequestNotFound as error:  # that one's trouble alone, and nothing was changed
                        answers.append(error)
        except Exception as error:
            service = Service(service.storage, service.clock, service.ended)
            if len(group) > 1:  # the fault of one is not the others'
                for job in group:
                    service = self._decide(service, [job])
                return service
            if not isinstance(error, StorageError):
                log.exception("a call failed")
            group[0][1].set_exception(error)
            return service
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(answer, RequestNotFound):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        return service
