"""The thread that decides and commits for everyone: many calls, one transaction, then the replies."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from ..errors import DamagedError, RequestNotFound, SheepdogError, StorageError
from ..storage import Storage
from ..values.model import ArrayJob, Request, RequestState
from .calls import Reply
from .decide import arrays, clock
from .decide.held import HeldCall, HeldCalls
from .decide.service import Service
from .life import file_number

log = logging.getLogger(__name__)

GROUP = 64  # calls in one commit
TICK = 1.0  # seconds between two looks at what time demands
SOON = 0.02  # seconds in which it is stored how far tasks have been leased
NOTHING = Reply({"tasks": [], "wait": 0.0})


class Clock:
    """The seconds in which workers could be heard: those of a pause of this process are not counted.

    It may be stopped, its machine asleep, its disk hang, its database be locked: that ends no lease.
    """

    def __init__(self) -> None:
        self.counted = 0.0
        self.looked = time.monotonic()

    def __call__(self) -> float:
        """Return the seconds so far. A longer time than TICK since the last call was a pause."""
        now = time.monotonic()
        self.counted += min(TICK, now - self.looked)
        self.looked = now
        return self.counted


class Writer(threading.Thread):
    """The thread in which the service lives. What it is given runs there, in one transaction with its neighbours."""

    def __init__(self, dbfile: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """tell is called with what keeps the server from storing, and with an empty text when that is over.

        done, if set, is called after each commit, with whether it changed anything.
        """
        super().__init__(name="writer", daemon=True)
        self.dbfile = dbfile
        self.tell = tell
        self.trouble = ""
        self.jobs: queue.SimpleQueue[tuple[Callable[[Service], Any], Future[Any]] | None] = queue.SimpleQueue()
        self.idle = 0.0  # seconds without an unfinished request, as of the last look
        self.removed: list[tuple[Request, tuple[ArrayJob, ...]]] = []  # the requests that went with the database
        self.done: Callable[[bool], None] | None = None
        self.held = HeldCalls()
        self.over = threading.Event()
        self.damage: DamagedError | None = None

    def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
        """Have a decision made; its future is set after the commit."""
        future: Future[Any] = Future()
        self.jobs.put((decide, future))
        if self.over.is_set():
            self._turn_away()
        return future

    def hold(self, reply: Reply, call: HeldCall) -> Reply:
        """Hold a call if its reply says so, until there are tasks or it is let go. For the service's thread."""
        if reply.hold:
            self.held.hold(call)
        return reply

    def let_go(self, call: HeldCall) -> None:
        """Hold a call no longer. For the service's thread."""
        self.held.let_go(call)

    def stop(self) -> None:
        """Finish what was submitted, then end."""
        self.jobs.put(None)
        self.join()

    def run(self) -> None:
        """Decide, commit, reply; once a second, look at the clock."""
        try:
            self._run()
        except DamagedError as error:
            self.damage = error
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
        with Storage(self.dbfile, make=False) as storage:
            storage.checkpoint_by_itself()
            storage.initdb()
            served = file_number(self.dbfile)
            service = Service(storage, Clock())
            ticked, busy, marked = 0.0, time.monotonic(), math.inf
            while True:
                marked = min(marked, time.monotonic() + SOON) if service.unmarked else math.inf
                group = self._next_group(min(TICK, max(0.0, marked - time.monotonic())))
                if time.monotonic() >= marked:
                    group.append((Service.mark, Future()))
                    marked = math.inf
                service = self._decide(service, [job for job in group if job])
                if not service.live and not storage.log_is_empty():
                    self._checkpoint(storage)
                if None in group:
                    self._see_removal(service, served)  # who made another one of that name has told this server to end
                    return
                now = time.monotonic()
                service.clock()
                if now - ticked > TICK:
                    with suppress(StorageError):
                        clock.tick(service)
                        unfinished = RequestState.NEW, RequestState.SUBMITTED, RequestState.ENDED
                        if storage.requests(*unfinished) or arrays.directories(service):
                            busy = now
                        self.idle = now - busy
                    if self._see_removal(service, served):
                        return
                    ticked = now

    def _checkpoint(self, storage: Storage) -> None:
        """Now that nothing runs, move all of the log into the file: whoever copies that has all."""
        try:
            if not storage.requests(RequestState.NEW, RequestState.SUBMITTED):
                storage.checkpoint()
        except StorageError as error:
            self._say(str(error))

    def _see_removal(self, service: Service, served: int) -> bool:
        """Tell whether the database has been removed, and note what there was to do for it."""
        if file_number(self.dbfile) == served:
            return False
        log.warning("%s has been removed", self.dbfile)
        with suppress(StorageError):  # or it was moved, and its log was left behind
            service.storage.checkpoint()
        self.removed = [(live.request, tuple(live.jobs.there.values())) for live in service.live.values()]
        with suppress(SheepdogError):  # the file has no name any more, but can be read
            for request in map(service.storage.get_request, service.storage.requests(RequestState.ENDED)):
                self.removed.append((request, tuple(service.storage.arrays(request.id))))
        return True

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            log.warning("%s", trouble or "the database can be written again")
            with suppress(StorageError):
                self.tell(trouble)

    def _next_group(self, seconds: float) -> list[tuple[Callable[[Service], Any], Future[Any]] | None]:
        group = []
        with suppress(queue.Empty):
            group.append(self.jobs.get(timeout=seconds))
            while len(group) < GROUP:
                group.append(self.jobs.get_nowait())
        return group

    def _decide(self, service: Service, group: list[tuple[Callable[[Service], Any], Future[Any]]]) -> Service:
        """Decide a group in one transaction. Return the service; another one if what it remembers was not committed."""
        answers: list[Any] = []
        if not group:
            return service
        begun, changes = False, service.storage.db.total_changes
        held: list[tuple[HeldCall, Reply]] = []
        try:
            with service.storage.transaction():
                begun = True
                for decide, _ in group:
                    try:
                        answers.append(decide(service))
                    except RequestNotFound as error:  # that one's trouble alone, and nothing was changed
                        answers.append(error)
                held = self.held.answers(service)
                if service.storage.db.total_changes != changes:
                    service.mark()  # with what is to be stored anyway
        except Exception as error:
            if begun:
                service = Service(service.storage, service.clock)
                for call in [*(call for call, _ in held), *self.held.let_all_go()]:
                    call.answer(NOTHING)  # they call again
            if len(group) > 1 and begun:  # the fault of one is not the others'
                for job in group:
                    service = self._decide(service, [job])
                return service
            if isinstance(error, StorageError):
                self._say(str(error))
            else:
                log.exception("a call failed")
            for _, future in group:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            if isinstance(error, DamagedError):
                raise
            return service
        changed = service.storage.db.total_changes != changes
        if changed:  # what writes nothing goes well on a full disk, too
            self._say("")
        if self.done:  # before the replies: who waits for an outcome is the first to hear of it
            self.done(changed)
        for call, reply in held:
            call.answer(reply)
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(answer, RequestNotFound):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        return service
