"""Waiting for a request: whoever waits reads the store, and starts the server again if it has died meanwhile."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator

from ..errors import NotOwnRequest, ServerError
from ..server.life import Server, is_locked, log_file
from ..storage import Storage
from ..values.model import Progress, Report, RequestState

log = logging.getLogger("sheepdog")

RESTARTS = 3  # of a server that dies at once, before its user hears of it
LOGGING = 1.0  # seconds in which the log of a database in which all has ended should be in its file
CLEARING = 30.0  # seconds in which what is left of a request should be cleared up


class Keeper:
    """Keeps the server of a database alive for whoever waits."""

    def __init__(self, dbfile: str) -> None:
        self.server = Server(dbfile=dbfile)
        self.looked = time.monotonic()
        self.started: list[float] = []

    def look(self) -> str:
        """Once a second, start a server that has died. Return what keeps a living one from its work, or nothing.

        One of an earlier version is replaced.
        """
        now = time.monotonic()
        if now - self.looked <= 1.0:
            return ""
        self.looked = now
        if self.server.outdated:
            log.warning("the server of %s is of an earlier version; replacing it", self.server.dbfile)
            self.server.start(make=False)
        if self.server.running:
            return self.server.trouble
        self.started = [moment for moment in self.started if now - moment < 60] + [now]
        if len(self.started) > RESTARTS:
            raise ServerError(f"the server of {self.server.dbfile} dies: see {log_file(self.server.dbfile)}")
        log.warning("the server of %s has died; starting it again", self.server.dbfile)
        self.server.start(make=False)
        return ""


def wait(
    request_id: int,
    dbfile: str | os.PathLike[str],
    show: Callable[[Progress], None],
    timeout: float | None = None,
    start: bool = True,
) -> Progress:
    """Wait until every task of a request has ended, or for so many seconds; return how far it is.

    Show how far it is, whenever that may have changed. start is that of follow.
    """
    with Storage(dbfile, make=False) as storage:
        waited = False
        for progress in follow(request_id, storage, timeout, start):
            show(progress)
            waited = waited or not progress.finished
        if waited and progress.finished:
            wait_for_log(storage)
        return progress


def wait_for_log(storage: Storage) -> None:
    """Wait a moment, if nothing else runs, for the server to move the log into the file: copies are whole then."""
    if not storage.requests(RequestState.NEW, RequestState.SUBMITTED):
        wait_until(lambda: storage.log_is_empty() or not is_locked(storage.dbfile), LOGGING, 0.002)


def follow(request_id: int, storage: Storage, timeout: float | None = None, start: bool = True) -> Iterator[Progress]:
    """Yield how far a request is, again and again, soon after each change, until every task has ended.

    Or for so many seconds. A server that has died is started again. But if not start, or if the request is not this
    account's own, nothing is started: then it is a warning, and the end, when no server lives.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    keeper = Keeper(storage.dbfile)
    refused = refusal(storage, request_id, start)
    progress = storage.progress(request_id)
    version, delay = None, 0.001
    while not progress.finished and time.monotonic() < end:
        if refused and not keeper.server.running:
            progress = storage.progress(request_id)
            if not progress.finished:
                warnings.warn(f"request {request_id} has not ended ({progress}). {refused}", stacklevel=2)
            break
        yield progress
        if trouble := "" if refused else keeper.look():
            yield progress._replace(note=trouble)
        time.sleep(delay)
        latest = storage.version()
        if latest == version:
            delay = min(0.05, delay * 1.2)
            continue
        version, delay = latest, 0.002
        progress = storage.progress(request_id)
    yield progress


def refusal(storage: Storage, request_id: int, start: bool) -> str:
    """Return why no server is started for a request, and what to do; empty if one is."""
    try:
        storage.require_own(request_id)
    except NotOwnRequest as error:
        return str(error)
    again = f"sheepdog.get_results({request_id}, {storage.dbfile!r})"
    return "" if start else f"With trusted=False no server is started for it: {again} does"


def follow_reports(request_id: int, storage: Storage, after: int = 0, start: bool = True) -> Iterator[Report]:
    """Yield what the tasks of a request report, as it comes, until every task has ended. after is a report's number."""
    for _ in follow(request_id, storage, start=start):
        for report in storage.reports(request_id, after=after):
            yield report
            after = report.number


def wait_for_clearing(storage: Storage, request_id: int, seconds: float = CLEARING) -> None:
    """Wait, so long at most, until a server has taken away what is left of an ended request elsewhere.

    Its workers are gone then, and none of them meets those of the next attempt.
    """
    wait_until(served(storage, lambda: storage.get_request(request_id).state != RequestState.ENDED), seconds)


def wait_for_directories(storage: Storage, request_id: int) -> bool:
    """Wait, for CLEARING at most, until a server has removed the directories of a request that is no more.

    Return whether it has.
    """
    return wait_until(served(storage, lambda: not storage.left_directories(request_id)), CLEARING)


def served(storage: Storage, holds: Callable[[], bool]) -> Callable[[], bool]:
    """Return what tells whether something holds that a server sees to; as long as it does not, a server runs."""

    def ask() -> bool:
        if holds():
            return True
        Server(dbfile=storage.dbfile).start(make=False)
        return False

    return ask


def wait_until(holds: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Wait until something holds, for so many seconds at most; tell whether it does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
