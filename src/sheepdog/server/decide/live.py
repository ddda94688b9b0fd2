"""An unfinished request as the server sees it: its queue, its workers, and what the scheduler said of its array jobs.

Plain memory, and questions about it that need no store. What follows from the answers is decided in service.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...config.options import Options
from ...values.model import ArrayJob, JobStatus, Request, RequestState
from .policy import Breaker, Policy
from .queue import Queue


@dataclass(slots=True)
class WorkerSeen:
    """What a worker said of itself, when it was last heard, and the number of its latest call."""

    host: str
    element: str
    heard: float
    array: int = 0
    level: int = 0
    call: int = 0
    missed: float | None = None
    """Since when the scheduler does not list it."""
    leaving: str | None = None
    """Why it is about to end, if it has said so."""

    @property
    def place(self) -> tuple[int, str]:
        """Its array job and its element of that. Only one worker at a time has this place."""
        return self.array, self.element


@dataclass(frozen=True, slots=True)
class Shortage:
    """Workers that a request lacks. all: it has none that can run what is left, and none will come.

    first: nobody has submitted workers of this level yet, so that to submit them repeats nothing.
    """

    workers: int
    level: int
    all: bool
    why: str
    first: bool = False


class Herd:
    """The memory of one request."""

    def __init__(self, request: Request, options: Options, queue: Queue, policy: Policy, now: float) -> None:
        self.request = request
        self.options = options
        self.queue = queue
        self.policy = policy
        self.breaker = Breaker(0 if request.open else policy.fail_fast, request.tasks)
        self.since = self.alone_since = now
        self.busy = now  # when a task was last leased or added
        self.cancelled = 0  # tasks that had been taken back at the last look
        self.leased = request.leased  # the highest index that was ever leased
        self.workers: dict[str, WorkerSeen] = {}
        self.elements: set[tuple[int, str]] = set()  # places from which a worker has called
        self.dead: set[tuple[int, str]] = set()  # places whose worker was lost, whatever the scheduler says
        self.quiet: dict[tuple[int, str], float] = {}  # since when nobody is heard from a place that is said to run
        self.joined = request.leased > 0
        self.refused: dict[str, str] = {}  # element -> why
        self.replaced: set[str] = set()  # workers that another one followed in their place
        self.arrays: dict[int, ArrayJob] = {}  # the array jobs of which the scheduler may know
        self.levels: dict[int, int] = {}  # of all array jobs, however they are
        self.statuses: dict[int, JobStatus] = {}  # what it said of them
        self.missed: dict[int, int] = {}  # how often in a row it has not listed them
        self.size = 0  # of the largest array job
        self.resubmissions = options.config.resubmissions
        self.fruitless = 0  # submissions in a row that were of no use, or not for long
        self.counted = True  # whether the latest is one of them
        self.submitted = now  # when the latest array job was
        self.submitting = False
        self.not_before = 0.0  # when workers may be submitted again
        self.unanswered = ""  # since when the scheduler has said nothing
        self.failures = 0  # submissions that did not succeed
        self.because = ""  # why the scheduler lets workers wait
        self.gone = ""  # how the last array job ended
        self.place = ""  # the directory of the latest one's files

    def add_array(self, array: ArrayJob) -> None:
        """Take note of an array job, and of what it calls now.

        Of one without an id nobody saw the submission, unless its request is being submitted: no worker may come of it.
        """
        self.size = max(self.size, array.workers)
        self.levels[array.number] = array.level
        self.place = array.directory
        if array.ended is None and (array.job or self.request.state == RequestState.NEW):
            self.arrays[array.number] = array

    def end_array(self, number: int) -> None:
        """Forget an array job of which the scheduler has nothing left."""
        for memory in (self.arrays, self.statuses, self.missed):
            memory.pop(number, None)

    def affords(self, shortage: Shortage) -> bool:
        """Tell whether workers may be submitted again."""
        return shortage.first or self.fruitless < self.resubmissions

    def begin_try(self, shortage: Shortage) -> None:
        """Note that workers are about to be submitted again."""
        self.submitting = True
        self.counted = not shortage.first
        self.fruitless += self.counted

    def forget_try(self, number: int) -> None:
        """Note that it was nobody's fault that this array job was not submitted."""
        if self.counted:
            self.fruitless -= 1
        else:
            self.levels.pop(number, None)

    @property
    def running(self) -> set[tuple[int, str]]:
        """The places of the workers that run, as far as the scheduler knows, and have not been lost."""
        said = {(number, element) for number, status in self.statuses.items() for element in status.running}
        return said - self.dead

    def listen(self, number: int, status: JobStatus, asked: float, patience: float) -> None:
        """Take a place for dead that is said to run, and from which nobody has been heard for so long."""
        heard = {seen.place for seen in self.workers.values()}
        for place in [(number, element) for element in status.running]:
            if place in heard:
                self.quiet.pop(place, None)
            elif asked - self.quiet.setdefault(place, asked) > patience:
                self.dead.add(place)

    def is_over(self, number: int, status: JobStatus) -> bool:
        """Tell whether no worker will come from an array job any more."""
        alive = any((number, element) not in self.dead for element in status.running)
        return not (alive or status.pending or status.broken)

    def all_heard(self) -> bool:
        """Tell whether every worker that runs has called."""
        heard = {seen.place for seen in self.workers.values()}
        return self.statuses.keys() >= self.arrays.keys() and self.running <= heard

    def all_called(self) -> bool:
        """Tell whether a worker has called from every element, so that none is waiting in the scheduler's queue."""
        called = Counter(number for number, _ in self.elements - self.dead)  # a lost one may be started again
        return all(called[number] >= array.workers for number, array in self.arrays.items())

    def silent(self, now: float) -> list[str]:
        """Return the workers of which nothing was heard for the time of a lease, whether they have leases or not."""
        never_asked = (name for name, seen in self.workers.items() if seen.heard < now - self.queue.lease)
        return self.queue.silent(now) + [name for name in never_asked if name not in self.queue.holders]

    def is_calm(self, now: float) -> bool:
        """Tell whether the workers say enough themselves: all that run have been heard lately."""
        recent = now - self.queue.lease / 2
        heard = all(seen.heard >= recent for seen in self.workers.values())
        doubt = self.queue.doubtful or any(self.missed.values())
        return bool(self.workers) and heard and self.all_heard() and not doubt

    def shortage(self, now: float) -> Shortage | None:
        """Tell what workers to submit again. None while it is not clear, or while there are enough."""
        if self.submitting or now < self.not_before or not self.size or any(self.missed.values()):
            return None
        self.queue.wake(now)
        level, waiting = max(self.queue.raised.items(), default=(0, 0))
        if level and not self._coming(level):
            stranded = sum(count for needed, count in self.queue.raised.items() if not self._coming(needed))
            nobody = stranded == self.queue.size or not self._coming(0)
            first = level not in self.levels.values()
            return Shortage(min(self.size, waiting), level, nobody, "tasks need more than their workers had", first)
        there = self._coming(0)
        leaving = [name for name, seen in self.workers.items() if seen.leaving is not None]
        free = self.queue.size - self.queue.held_by(leaving)  # what they hold may still end well
        needed = self.size if self.request.open and free else min(self.size, free)
        lacking = needed - there
        if lacking < (max(1, self.size // 2) if there else 1):
            return None
        return Shortage(lacking, level, not there, self.gone or f"{lacking} workers have ended before the tasks")

    def _coming(self, level: int) -> int:
        """Return how many workers of at least this level there are, or will be."""
        staying = {seen.place for seen in self.workers.values() if seen.leaving is None and seen.level >= level}
        count = len(staying)
        for number, array in self.arrays.items():
            if array.level >= level:
                status = self.statuses.get(number)
                called = {place for place in self.elements if place[0] == number}
                if status is None:
                    count += max(0, array.workers - len(called))
                else:
                    silent = {(number, element) for element in status.running} - self.dead - called
                    count += status.pending + len(silent)
        return count

    def situation(self) -> str:
        """Return why there are no workers, in a sentence for the user; an empty text if nothing can be said."""
        host = self.options.config.host or "this machine"
        if self.unanswered:
            return self.unanswered
        reasons = [status.reason for status in self.statuses.values() if status.reason and not status.gone]
        reasons += [self.because] if self.because else []
        because = f": {'; '.join(reasons)}" if reasons else ""
        pending = sum(status.pending for status in self.statuses.values())
        if any(status.broken for status in self.statuses.values()):
            return f"workers cannot start{because}"
        if self.running:
            urls = " or ".join(url for array in self.arrays.values() for url in array.urls)
            none = "no longer any" if self.joined else "none"
            return (
                f"{len(self.running)} workers run, but {none} has reached {urls}: is that name known there, and the "
                "port open? (options localhost and port)"
            )
        if pending:
            held = ", on hold" if any(status.held for status in self.statuses.values()) else ""
            jobs = ", ".join(array.job for array in self.arrays.values())
            return f"{pending} workers wait in the queue of {host} (array job {jobs}{held}){because}"
        return ""
