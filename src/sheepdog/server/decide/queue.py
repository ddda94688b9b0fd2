"""The leases of one request's tasks: who may run what until when. Plain logic: no I/O, no clock of its own.

                take                      settle
    ready ------------------> leased ------------------> ended
      ^ ^                       |
      | +----- drop, hold ------+
      |                         | repeat
      +------- wake ------- waiting

Only what is leased, or has a past, is held one by one; ready tasks are ranges, so a million of them cost nothing. When
a server takes over from one that died, tasks that may still be held by a worker are doubtful: they wait until the
workers have been heard, so that a task of ten hours is not begun twice.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...values.ranges import Range, Ranges
from .policy import FRESH, Past

NONE: Mapping[int, float] = {}
SUSPECT = 2  # lost workers that make a task suspect: it goes alone then, so that others do not pay for it


@dataclass(slots=True)
class Holder:
    """A worker, seen from the queue: what it holds (index -> attempt), and until when without another word."""

    until: float
    held: dict[int, int] = field(default_factory=dict)


class Queue:
    """Tasks are taken in the order of their indices.

    Each task has a level: how often resources must have been raised for the worker that takes it. What needs most is
    taken first.
    """

    def __init__(
        self,
        pending: Iterable[Range],
        lease: float,
        leased_before: int = 0,
        past: Mapping[int, Past] | None = None,
    ) -> None:
        """pending are the ranges of tasks that have not ended; up to leased_before they may be held by workers."""
        self.lease = lease
        self.holders: dict[str, Holder] = {}
        self.past: dict[int, Past] = dict(past or {})  # most tasks have none
        self._holder_of: dict[int, str] = {}
        self._due: dict[int, float] = {}  # of what waits
        self._next: list[tuple[float, int]] = []  # a heap of the same; what is due at another time now is passed over
        unheard, ready = Ranges(), Ranges()
        for first, last in pending:
            if first <= leased_before:
                unheard.add(first, min(last, leased_before))
            if last > leased_before:
                ready.add(max(first, leased_before + 1), last)
        self._doubtful = unheard
        self._ready = defaultdict(Ranges, {0: ready})  # level -> tasks
        for index, its in self.past.items():
            if its.level and ready.remove(index):
                self._ready[its.level].add(index, index)

    # --- what there is

    @property
    def ready(self) -> int:
        """How many tasks wait for a worker."""
        return sum(tasks.count for tasks in self._ready.values())

    def ready_for(self, level: int) -> int:
        """Return how many tasks wait for a worker with resources raised so often."""
        return sum(tasks.count for needed, tasks in self._ready.items() if needed <= level)

    @property
    def raised(self) -> dict[int, int]:
        """How many tasks wait at each level above 0."""
        return {level: tasks.count for level, tasks in self._ready.items() if tasks and level}

    @property
    def leased(self) -> int:
        """How many tasks workers hold."""
        return len(self._holder_of)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a time."""
        return len(self._due)

    @property
    def doubtful(self) -> bool:
        """Whether there are tasks of which nobody knows if a worker holds them."""
        return bool(self._doubtful)

    @property
    def size(self) -> int:
        """How many tasks have not ended."""
        return self.ready + self.leased + self.waiting + self._doubtful.count

    @property
    def empty(self) -> bool:
        """Whether every task has ended."""
        return not (self._holder_of or self._doubtful or self._due or self.ready)

    def held_by(self, workers: Iterable[str]) -> int:
        """Return how many tasks these workers hold."""
        return sum(len(self.holders[worker].held) for worker in workers if worker in self.holders)

    def attempts(self, index: int) -> int:
        """Return how many attempts of a task were begun, as far as is known. The one under way is among them."""
        begun = self.past.get(index, FRESH).attempts
        worker = self._holder_of.get(index)
        return begun if worker is None else max(begun, self.holders[worker].held[index])

    def may_have_begun(self, index: int) -> int:
        """Return how many attempts may have been begun: a worker not heard since the restart may hold another."""
        return self.attempts(index) + (index in self._doubtful)

    def has(self, index: int) -> bool:
        """Tell whether a task has not ended."""
        held_or_waits = index in self._holder_of or index in self._due
        return held_or_waits or index in self._doubtful or any(index in tasks for tasks in self._ready.values())

    def is_superseded(self, worker: str, index: int, attempt: int) -> bool:
        """Tell whether this attempt of a task has been given up, another worker has the task now, or it has ended."""
        holder = self._holder_of.get(index)
        if holder is not None:
            return holder != worker or attempt < self.holders[worker].held[index]
        return attempt <= self.attempts(index) or not self.has(index)

    def is_latest(self, worker: str, index: int, attempt: int) -> bool:
        """Tell whether no later attempt of a task was begun, nor the same by another worker, and it has not ended."""
        holder = self._holder_of.get(index)
        if holder is not None:
            return holder == worker and attempt >= self.holders[worker].held[index]
        return attempt >= self.attempts(index) and self.has(index)

    @property
    def ranges(self) -> list[Range]:
        """The tasks that have not ended, as ranges (first, last) in no order."""
        singles = [(index, index) for index in (*self._holder_of, *self._due)]
        return [*singles, *self._doubtful, *(each for tasks in self._ready.values() for each in tasks)]

    def extend(self, first: int, last: int) -> None:
        """Add tasks behind all others."""
        self._ready[0].add(first, last)

    # --- leases

    def release_doubtful(self) -> list[tuple[int, int]]:
        """Make the doubtful tasks ready: whoever held them would have said so by now.

        Return them as (index, attempt): each may have been begun, by a worker that was lost meanwhile.
        """
        found = [
            (index, self.attempts(index) + 1) for first, last in self._doubtful for index in range(first, last + 1)
        ]
        self._doubtful = Ranges()
        for index, attempt in found:
            self.past[index] = self.past.get(index, FRESH).counted(attempt)
            self._make_ready(index)
        return found

    def take(
        self, worker: str, want: int, now: float, level: int = 0, shunned: Mapping[int, float] = NONE
    ) -> list[tuple[int, int]]:
        """Lease up to this many tasks; return (index, attempt), ascending within each level. A suspect goes alone.

        shunned are tasks that are left to others until a time.
        """
        self.wake(now)
        holder = self._heard(worker, now)
        taken: list[tuple[int, int]] = []
        left: list[int] = []
        for needed in sorted((needed for needed in self._ready if needed <= level), reverse=True):
            tasks = self._ready[needed]
            while tasks and len(taken) < want:
                first, last = tasks.pop(want - len(taken))
                if not self.past:
                    taken += [(index, 1) for index in range(first, last + 1)]
                    continue
                suspect = next((index for index in range(first, last + 1) if self._is_suspect(index)), None)
                if suspect is not None:
                    stop = suspect if taken or suspect > first else suspect + 1
                    if stop <= last:
                        tasks.add(stop, last)
                    last, want = stop - 1, 0
                found: Iterable[int] = range(first, last + 1)
                if shunned:
                    left += (index for index in found if shunned.get(index, 0.0) > now)
                    found = [index for index in found if shunned.get(index, 0.0) <= now]
                taken += [(index, self.attempts(index) + 1) for index in found]
        for index in left:
            self._make_ready(index)
        holder.held.update(taken)
        self._holder_of.update(dict.fromkeys([index for index, _ in taken], worker))
        return taken

    def _is_suspect(self, index: int) -> bool:
        return index in self.past and self.past[index].losses >= SUSPECT

    def hold(self, worker: str, held: Mapping[int, int], now: float) -> list[int]:
        """Renew a worker's leases to what it says it holds. Return those that have ended meanwhile.

        What it does not name it does not have (a reply was lost, or it gave tasks back): that is ready again, and
        counts as no attempt. What it names and nobody else holds is its own: it kept it while the server was down.
        """
        holder = self._heard(worker, now)
        if held == holder.held:
            return []
        for index in [index for index in holder.held if index not in held]:
            self._release(worker, index)
        ended = []
        for index, attempt in held.items():
            if index in holder.held or index in self._holder_of:
                continue
            if not self._withdraw(index):
                ended.append(index)
                continue
            holder.held[index] = attempt
            self._holder_of[index] = worker
        return ended

    def put_back(self, worker: str, indexes: Sequence[int]) -> None:
        """Make tasks ready again that were taken, but never sent; that counts as no attempt."""
        for index in indexes:
            self._release(worker, index)

    def settle(self, indexes: Iterable[int]) -> None:
        """Note that these tasks have ended, whoever reported it."""
        holder_of, holders = self._holder_of, self.holders
        for index in indexes:
            worker = holder_of.pop(index, None)
            if worker is not None:
                holders[worker].held.pop(index, None)
            else:
                self._withdraw(index)
            if self.past:
                self.past.pop(index, None)

    def repeat(self, index: int, past: Past, due: float) -> None:
        """Let a task be taken again from due on; an attempt of it has ended."""
        if not self._let_go(index):
            self._withdraw(index)
        self.past[index] = past
        self._due[index] = due
        heapq.heappush(self._next, (due, index))

    def wake(self, now: float) -> None:
        """Make the tasks ready whose time has come."""
        while self._next and self._next[0][0] <= now:
            due, index = heapq.heappop(self._next)
            if self._due.get(index) == due:
                del self._due[index]
                self._make_ready(index)

    def drop(self, worker: str) -> list[tuple[int, int]]:
        """Forget a worker that has ended. Return what it held, (index, attempt); each must be repeated or settled."""
        holder = self.holders.pop(worker, None)
        lost = list(holder.held.items()) if holder else []
        for index, _ in lost:
            del self._holder_of[index]
        return lost

    # --- time

    def silent(self, now: float) -> list[str]:
        """Return the workers whose leases are over."""
        return [worker for worker, holder in self.holders.items() if now > holder.until]

    def renew(self, worker: str, now: float) -> None:
        """Renew the leases of a worker, if it has any."""
        if worker in self.holders:
            self._heard(worker, now)

    def shorten(self, worker: str, until: float) -> None:
        """Let a worker's leases end sooner: it has said that it is about to end."""
        self.holders[worker].until = until

    def _heard(self, worker: str, now: float) -> Holder:
        holder = self.holders.get(worker)
        if holder is None:
            holder = self.holders[worker] = Holder(now + self.lease)
        holder.until = now + self.lease
        return holder

    # --- parts

    def _release(self, worker: str, index: int) -> None:
        del self.holders[worker].held[index]
        del self._holder_of[index]
        self._make_ready(index)

    def _let_go(self, index: int) -> bool:
        """Take a task from the worker that holds it, if one does."""
        worker = self._holder_of.pop(index, None)
        if worker is not None:
            self.holders[worker].held.pop(index, None)
        return worker is not None

    def _make_ready(self, index: int) -> None:
        self._ready[self.past.get(index, FRESH).level].add(index, index)

    def _withdraw(self, index: int) -> bool:
        """Take an index out of the tasks that nobody holds; return whether it was there."""
        if self._due.pop(index, None) is not None or self._doubtful.remove(index):
            return True
        return self._ready[self.past.get(index, FRESH).level].remove(index)
