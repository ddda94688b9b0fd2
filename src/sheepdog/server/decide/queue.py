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
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ...values.ranges import Range, contains, take_out, total
from .policy import FRESH, Past

SUSPECT = 2  # lost workers that make a task suspect: it goes alone then, so that others do not pay for it


@dataclass(slots=True)
class Holder:
    """A worker, seen from the queue: what it holds (index -> attempt), and until when without another word."""

    until: float
    held: dict[int, int] = field(default_factory=dict)


class Queue:
    """Tasks are taken in the order of their indices; what comes back is taken first.

    Each task has a level: how often resources must have been raised for the worker that takes it.
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
        self._ready: deque[Range] = deque()
        self._raised: defaultdict[int, deque[int]] = defaultdict(deque)  # level -> ready tasks
        self._waiting: list[tuple[float, int]] = []  # a heap: when they are ready again
        self._doubtful: deque[Range] = deque()
        for first, last in pending:
            if first <= leased_before:
                self._doubtful.append((first, min(last, leased_before)))
            if last > leased_before:
                self._ready.append((max(first, leased_before + 1), last))
        self._count = total(self._ready)
        self._holder_of: dict[int, str] = {}
        for index in sorted(self.past, reverse=True):
            if index > leased_before and self._withdraw(index):
                self._put_first(index, index)

    # --- what there is

    @property
    def ready(self) -> int:
        """How many tasks wait for a worker."""
        return self._count + sum(map(len, self._raised.values()))

    def ready_for(self, level: int) -> int:
        """Return how many tasks wait for a worker with resources raised so often."""
        return self._count + sum(len(tasks) for needed, tasks in self._raised.items() if needed <= level)

    @property
    def raised(self) -> dict[int, int]:
        """How many tasks wait at each level above 0."""
        return {level: len(tasks) for level, tasks in self._raised.items() if tasks}

    @property
    def leased(self) -> int:
        """How many tasks workers hold."""
        return len(self._holder_of)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a time."""
        return len(self._waiting)

    @property
    def doubtful(self) -> bool:
        """Whether there are tasks of which nobody knows if a worker holds them."""
        return bool(self._doubtful)

    @property
    def size(self) -> int:
        """How many tasks have not ended."""
        return self.ready + self.leased + self.waiting + total(self._doubtful)

    @property
    def empty(self) -> bool:
        """Whether every task has ended."""
        return not (self._count or self._holder_of or self._doubtful or self._waiting or self.ready)

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
        return self.attempts(index) + contains(self._doubtful, index)

    def has(self, index: int) -> bool:
        """Tell whether a task has not ended."""
        if index in self._holder_of or any(index in tasks for tasks in self._raised.values()):
            return True
        nobody_has_it = contains((*self._ready, *self._doubtful), index)
        return nobody_has_it or any(index == task for _, task in self._waiting)

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
        singles = [*self._holder_of, *(index for _, index in self._waiting), *chain(*self._raised.values())]
        return [*self._ready, *self._doubtful, *((index, index) for index in singles)]

    def extend(self, first: int, last: int) -> None:
        """Add tasks behind all others."""
        self._count += last - first + 1
        if self._ready and self._ready[-1][1] == first - 1:
            first, _ = self._ready.pop()
        self._ready.append((first, last))

    # --- leases

    def release_doubtful(self) -> list[tuple[int, int]]:
        """Make the doubtful tasks ready: whoever held them would have said so by now.

        Return them as (index, attempt): each may have been begun, by a worker that was lost meanwhile.
        """
        found = [
            (index, self.attempts(index) + 1) for first, last in self._doubtful for index in range(first, last + 1)
        ]
        self._doubtful.clear()
        for index, attempt in reversed(found):
            self.past[index] = self.past.get(index, FRESH).counted(attempt)
            self._put_first(index, index)
        return found

    def take(self, worker: str, want: int, now: float, level: int = 0) -> list[tuple[int, int]]:
        """Lease up to this many tasks; return (index, attempt), ascending within each run of neighbours."""
        self.wake(now)
        holder = self._heard(worker, now)
        taken: list[tuple[int, int]] = []
        for first, last in self._runs(level):
            alone = self.past.get(first, FRESH).losses >= SUSPECT
            if alone and taken:
                self._put_first(first, last)
                break
            if alone:
                want = 1
            stop = min(last + 1, first + want - len(taken))
            if stop <= last:
                self._put_first(stop, last)
            taken += [(index, self.attempts(index) + 1) for index in range(first, stop)]
            if len(taken) >= want:
                break
        holder.held.update(taken)
        self._holder_of.update((index, worker) for index, _ in taken)
        return taken

    def _runs(self, level: int) -> Iterator[Range]:
        """Yield what is ready for this level, each taken out as it is yielded."""
        for needed in sorted((needed for needed in self._raised if needed <= level), reverse=True):
            while self._raised[needed]:
                index = self._raised[needed].popleft()
                yield index, index
        while self._ready:
            first, last = self._ready.popleft()
            self._count -= last - first + 1
            yield first, last

    def hold(self, worker: str, held: Mapping[int, int], now: float) -> list[int]:
        """Renew a worker's leases to what it says it holds. Return those that have ended meanwhile.

        What it does not name it does not have (a reply was lost, or it gave tasks back): that is ready again, and
        counts as no attempt. What it names and nobody else holds is its own: it kept it while the server was down.
        """
        holder = self._heard(worker, now)
        if held == holder.held:
            return []
        for index in [index for index in reversed(holder.held) if index not in held]:
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
        for index in reversed(indexes):
            self._release(worker, index)

    def settle(self, indexes: Iterable[int]) -> None:
        """Note that these tasks have ended, whoever reported it."""
        for index in indexes:
            if not self._let_go(index):
                self._withdraw(index)
            self.past.pop(index, None)

    def repeat(self, index: int, past: Past, due: float) -> None:
        """Let a task be taken again from due on; an attempt of it has ended."""
        if not self._let_go(index):
            self._withdraw(index)
        self.past[index] = past
        heapq.heappush(self._waiting, (due, index))

    def wake(self, now: float) -> None:
        """Make the tasks ready whose time has come."""
        due = []
        while self._waiting and self._waiting[0][0] <= now:
            due.append(heapq.heappop(self._waiting)[1])
        for index in reversed(due):
            self._put_first(index, index)

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
        self._put_first(index, index)

    def _let_go(self, index: int) -> bool:
        """Take a task from the worker that holds it, if one does."""
        worker = self._holder_of.pop(index, None)
        if worker is not None:
            self.holders[worker].held.pop(index, None)
        return worker is not None

    def _put_first(self, first: int, last: int) -> None:
        """Make a run of tasks ready; one that needs more than others is a run by itself."""
        level = self.past.get(first, FRESH).level
        if level:
            self._raised[level].appendleft(first)
        else:
            self._ready.appendleft((first, last))
            self._count += last - first + 1

    def _withdraw(self, index: int) -> bool:
        """Take an index out of the tasks that nobody holds; return whether it was there."""
        if take_out(self._ready, index):
            self._count -= 1
            return True
        if take_out(self._doubtful, index):
            return True
        for tasks in self._raised.values():
            if index in tasks:
                tasks.remove(index)
                return True
        for position, (_, waiting) in enumerate(self._waiting):
            if waiting == index:
                del self._waiting[position]
                heapq.heapify(self._waiting)
                return True
        return False
