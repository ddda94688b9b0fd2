"""An unfinished request as the server sees it: its queue, its workers, its array jobs.

Plain memory, and questions about it that need no store. What follows from the answers is decided in verdict.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...config.options import Options
from ...values.model import ArrayJob, JobStatus, Kind, Outcome, Request, RequestState
from .deletion import is_deletion
from .facts import Facts
from .hosts import Change, Hosts
from .jobs import ArrayJobs
from .order import Order
from .policy import FAILURES, Breaker, Policy, likeness
from .queue import Queue
from .tries import Tries
from .workers import Element, Workers

ACCOUNTED = 30.0  # seconds after which a scheduler's accounting knows how an element ended, if there is any
MOST_ALIKE = 200  # characters of what failures have in common


@dataclass(slots=True)
class Reasons:
    """What others have said, in their words; each is empty until they do."""

    unanswered: str = ""
    """Since when the scheduler has said nothing."""
    waiting: str = ""
    """Why the scheduler lets workers wait."""
    overheard: str = ""
    """What a worker has written that cannot reach the server."""
    way: str = ""
    """Why workers call a relay, if they do."""
    relay: str = ""
    """Why there is no relay."""
    ended: str = ""
    """How the last workers ended, or why none could be submitted."""


class Pace:
    """How long the tasks of a request take."""

    def __init__(self) -> None:
        self.since = math.inf  # when a task was first leased
        self.ended = 0
        self.seconds = 0.0  # of those that have ended

    def begin(self, now: float) -> None:
        """Note that tasks have been leased."""
        self.since = min(self.since, now)

    def end(self, seconds: Sequence[float]) -> None:
        """Note how long tasks took that have ended."""
        self.ended += len(seconds)
        self.seconds += sum([each for each in seconds if each > 0])  # a worker may say anything, also no number

    def mean(self, now: float) -> float:
        """Return the seconds of a task: while none has ended, at least as long as the first ones have run."""
        return self.seconds / self.ended if self.ended else max(0.0, now - self.since)


class LiveRequest:
    """The memory of one request."""

    def __init__(self, request: Request, options: Options, queue: Queue, policy: Policy, now: float) -> None:
        self.request = request
        self.options = options
        self.queue = queue
        self.policy = policy
        self.breaker = Breaker(0 if request.open else policy.fail_fast, request.tasks)
        self.workers = Workers(request.leased > 0, now)
        self.order = Order()
        self.ordered = request.open or options.ordered  # also when there come no others any more
        self.jobs = ArrayJobs()
        self.tries = Tries(options.config.resubmissions, request.fruitless, now)
        self.reasons = Reasons()
        self.heard: set[str] = set()  # what workers have said of modules
        self.facts = Facts()
        self.hosts = Hosts(several=options.scheduler not in ("", "local"))
        self.pace = Pace()
        self.since = now
        self.busy_since = now  # when a task was last leased or added
        self.cancelled = 0  # tasks that had been taken back at the last look
        self.reached = self.marked = request.leased  # the highest index that was ever leased, and as it is stored

    def add_array(self, array: ArrayJob) -> None:
        """Take note of an array job, and of what it calls now.

        Of one without an id nobody saw the submission, unless its request is being submitted: no worker may come of it.
        """
        expected = array.ended is None and bool(array.job or self.request.state == RequestState.NEW)
        self.jobs.add(array, expected)

    def end_array(self, number: int, why: str) -> None:
        """Note that an array job is no more, and how it ended."""
        self.jobs.end(number)
        self.reasons.ended = why

    def note_host(self, host: str, good: int, failed: Sequence[Outcome], when: float) -> Change | None:
        """Take note of how tasks ended on a host: so many well, and the others in these ways.

        A task that fails again tells nothing new of hosts.
        """
        kinds = FAILURES if not self.policy.on_oom else [kind for kind in FAILURES if kind != Kind.MEMORY]
        first = (outcome for outcome in failed if outcome.kind in kinds and not self.hosts.has_failed(outcome.task))
        return self.hosts.note(host, good, (likeness(outcome)[:MOST_ALIKE] for outcome in first), when)

    def is_deleted(self, number: int) -> bool:
        """Tell whether somebody has deleted an array job, on purpose and as a whole, as far as can be told."""
        workers, jobs = self.workers, self.jobs
        array, status = jobs.there.get(number), jobs.statuses.get(number)
        if array is None or status is None:
            return False
        names = [str(name) for name in range(1, array.workers + 1)]
        elements = (
            {element.name for element in those if element.array == number}
            for those in (workers.warned, workers.called, workers.dismissed)
        )
        return is_deletion(names, jobs.before.get(number), status, *elements)

    def hear(self, number: int, status: JobStatus, asked: float, patience: float) -> list[str]:
        """Take note of what the scheduler says of an array job. Return the workers that it has lost.

        Elements that are said to run, and keep silent for longer than patience, do not.
        """
        if self.workers.joined:  # else its user is to hear that none can
            self.workers.listen({Element(number, name) for name in status.running}, asked, patience)
        self.jobs.hear(number, status, self.workers.lost, asked)
        self.jobs.count_fallen(number, {element.name for element in self.workers.called if element.array == number})
        return self.workers.ended(number, status.running, asked)

    def bound(self, worker: str, now: float) -> int:
        """Return how many tasks a worker may get now, for what is known of its host."""
        host = self.workers.known[worker].host
        own = len(self.queue.holders[worker].held) if worker in self.queue.holders else 0
        if not self.hosts.is_suspect(host):
            return self.hosts.bound(host, own, 0, (), False, now)
        held = self.queue.held_by(name for name, seen in self.workers.known.items() if seen.host == host)
        return self.hosts.bound(host, own, held, *self._others(), now)

    def may_be_the_host(self, now: float) -> bool:
        """Tell whether the first tasks have failed on one host alone, while others do better or may."""
        if len(self.breaker.hosts) > 1:
            return False
        [host] = self.breaker.hosts
        return self.hosts.has_company(host, *self._others(), now)

    def _others(self) -> tuple[set[str], bool]:
        """Return the hosts with workers, and whether there may be more."""
        return {seen.host for seen in self.workers.known.values()}, not self.all_called()

    def shunned(self, host: str) -> Mapping[int, float]:
        """Return the tasks that a host had better not have, and until when."""
        return self.hosts.shunned(host, (seen.host for seen in self.workers.known.values() if seen.leaving is None))

    def may_go_elsewhere(self) -> bool:
        """Tell whether workers of which none has called may be submitted again: the hosts may have been to blame."""
        return self.hosts.better_elsewhere() and self.tries.affords(first=False)

    def fallen(self, now: float) -> list[ArrayJob]:
        """Return the array jobs of which the accounting is to say how elements ended, while others go on; note that."""
        patience = ACCOUNTED + self.options.config.poll_interval  # so that it is asked once more
        there = self.jobs.there.items() if self.hosts.several else ()
        return [array for number, array in there if self.jobs.look(number) or self.in_doubt(number, now, patience)]

    def in_doubt(self, number: int, now: float, patience: float = ACCOUNTED) -> bool:
        """Tell whether somebody may just be deleting an array job, one element after the other.

        So it may be for a while after one was warned, or has ended from which no worker has called; but for those of
        which it is known that they ended otherwise: then the others may have, too.
        """
        warned = {element.name: when for element, when in self.workers.warned.items() if element.array == number}
        for name in self.jobs.failed.get(number, ()):
            if name in warned or Element(number, name) not in self.workers.called:
                return False
        fell = [self.jobs.fell[number][1]] if number in self.jobs.fell else []
        return any(now - when < patience for when in (*warned.values(), *fell))

    def in_question(self, now: float) -> bool:
        """Tell whether somebody may have deleted an array job, or may just be doing so.

        It may be so if all of it that runs was warned, as far as is known.
        """
        if self.hosts.several and any(self.in_doubt(number, now) for number in self.jobs.there):
            return True
        latest: dict[int, float] = {}
        for element, when in self.workers.warned.items():
            latest[element.array] = max(when, latest.get(element.array, 0.0))
        return any(self._may_be_deleted(number, when) for number, when in latest.items() if number in self.jobs.there)

    def _may_be_deleted(self, number: int, warned: float) -> bool:
        status, asked = self.jobs.statuses.get(number), self.jobs.asked.get(number, 0.0)
        if status is None or asked <= warned:
            return True
        rest = {element for element in self.running if element.array == number} - self.workers.warned.keys()
        return not status.pending and {element.name for element in rest} <= status.deleting

    @property
    def running(self) -> set[Element]:
        """The elements whose workers run, as far as the scheduler knows, and have not been lost."""
        return self.jobs.running - self.workers.lost

    def all_heard(self) -> bool:
        """Tell whether every worker that runs has called."""
        return self.jobs.statuses.keys() >= self.jobs.there.keys() and self.running <= self.workers.elements

    def all_called(self) -> bool:
        """Tell whether a worker has called from every element."""
        return self.workers.all_called(self.jobs.there)

    def silent(self, now: float) -> list[str]:
        """Return the workers of which nothing was heard for the time of a lease, whether they have leases or not."""
        never_asked = self.workers.silent(now - self.queue.lease)
        return self.queue.silent(now) + [name for name in never_asked if name not in self.queue.holders]

    def is_calm(self, now: float) -> bool:
        """Tell whether the workers say enough themselves: all that run have been heard lately."""
        heard = self.workers.known and not self.workers.silent(now - self.queue.lease / 2)
        in_doubt = self.queue.doubtful or self.jobs.in_doubt or self.workers.leaving
        return bool(heard) and self.all_heard() and not in_doubt
