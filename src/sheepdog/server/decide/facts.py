"""What a person may want to see of a request: its workers, what they run, and what is rare and has happened.

It is collected in memory, and stored once a second at most, with what is committed anyway if there is something.
Nothing is stored for each task.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping

from ...storage import Storage
from ...values.facts import Event, What, WorkerFacts
from .workers import NOTHING, Running, WorkerSeen

PAUSE = 1.0  # seconds between two times that something is stored of a request
HEARD = 10.0  # ... if the only news is that its workers have been heard
MOST = 10_000  # events that wait for a disk that is full


class Facts:
    """The facts of one request that are to be stored."""

    def __init__(self, unended: Iterable[WorkerFacts] = ()) -> None:
        self.unheard = {worker.name: worker for worker in unended}  # by a server before this one, and not since
        self._events: deque[Event] = deque(maxlen=MOST)
        self._ended: dict[str, WorkerFacts] = {}
        self._changed: set[str] = set()
        self._news = False  # whether there is more than that workers have been heard
        self._stored = float("-inf")

    def note(self, what: What, text: str = "", task: int | None = None, worker: str = "") -> None:
        """Take note of something that has happened."""
        self._events.append(Event(time.time(), what, task, worker, text))
        self._news = True

    # --- workers

    def join(self, name: str, seen: WorkerSeen) -> None:
        """Take note of a worker that calls for the first time, or for the first time after a restart of the server."""
        before = self.unheard.pop(name, None)
        if before is not None:
            seen.joined, seen.python = before.joined, before.python
        else:
            seen.joined = time.time()
            self.note(What.JOINED, f"on {seen.host}", worker=name)
        self._changed.add(name)
        self._news = True

    def run(self, name: str, seen: WorkerSeen, task: int, attempt: int, seconds: float = 0.0) -> None:
        """Take note of what a worker runs now, and for how long it has; task 0 is none."""
        self._changed.add(name)
        if (task, attempt) != seen.running[:2]:
            seen.running = Running(task, attempt, time.time() - seconds) if task else NOTHING
            self._news = True

    def end(self, name: str, seen: WorkerSeen, why: str, now: float) -> None:
        """Take note of a worker that is no more."""
        self._changed.discard(name)
        self._end(_facts(name, seen, time.time() - now), why)

    def end_unheard(self, why: str, array: int | None = None) -> None:
        """Take note that those are no more, all or of an array job, whom this server has never heard."""
        for worker in list(self.unheard.values()):
            if array in (None, worker.array):
                del self.unheard[worker.name]
                self._end(worker, why)

    def _end(self, worker: WorkerFacts, why: str) -> None:
        self._ended[worker.name] = worker._replace(ended=time.time(), why=why, task=0, attempt=0, since=None)
        self._news = True

    # --- the store

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to store them."""
        pause = PAUSE if self._news else HEARD
        return (self._news or bool(self._changed)) and now - self._stored >= pause

    def store(self, storage: Storage, request_id: int, known: Mapping[str, WorkerSeen], now: float) -> None:
        """Store what is new. known are the workers, heard by the clock that says now."""
        zero = time.time() - now
        changed = [_facts(name, known[name], zero) for name in self._changed if name in known]
        with storage.transaction():
            storage.store_workers(request_id, [*self._ended.values(), *changed])
            storage.store_events(request_id, self._events)
        self._events.clear()
        self._ended.clear()
        self._changed.clear()
        self._news, self._stored = False, now


def _facts(name: str, seen: WorkerSeen, zero: float) -> WorkerFacts:
    """Return the facts of a worker. zero is the Unix time at which the clock stood at 0."""
    about = (name, seen.element.array, seen.element.name, seen.host, seen.python, seen.joined, zero + seen.heard)
    task, attempt, since = seen.running
    return WorkerFacts(*about, task=task, attempt=attempt, since=since)
