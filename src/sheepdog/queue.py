"""The leases of one request's tasks: who may run what until when. Plain logic: no I/O, no clock of its own.

                take                      settle
    ready ------------------> leased ------------------> ended
      ^                         |
      +----- drop, hold, -------+
             expire

Only what is leased is held one by one; ready tasks are ranges, so a million of them cost nothing. When a server takes
over from one that died, tasks that may still be held by a worker are doubtful: they wait until the workers have been
heard, so that a task of ten hours is not begun twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SUSPECT = 2  # lost workers that make a task suspect: it goes alone then, so that others do not pay for it


@dataclass(slots=True)
class Holder:
    """A worker, seen from the queue: what it holds (index -> attempt) and when it was last heard."""

    seen: float
    held: dict[int, int] = field(default_factory=dict)


class Queue:
    """Tasks are taken in the order of their indices; what comes back is taken first."""

    def __init__(self, pending: Iterable[tuple[int, int]], lease: float, leased_before: int = 0) -> None:
        """pending are the ranges of tasks that have not ended; up to leased_before they may be held by workers."""
        self.lease = lease
        self.holders: dict[str, Holder] = {}
        self._ready: deque[tuple[int, int]] = deque()
        self._doubtful: deque[tuple[int, int]] = deque()
        for first, last in pending:
            if first <= leased_before:
                self._doubtful.append((first, min(last, leased_before)))
            if last > leased_before:
                self._ready.append((max(first, leased_before + 1), last))
        self._count = _total(self._ready)
        self._holder_of: dict[int, str] = {}
        self._lost: dict[int, int] = {}  # attempts that ended without an outcome; most tasks have none

    @property
    def ready(self) -> int:
        """How many tasks wait for a worker."""
        return self._count

    @property
    def leased(self) -> int:
        """How many tasks workers hold."""
        return len(self._holder_of)

    @property
    def doubtful(self) -> bool:
        """Whether there are tasks of which nobody knows if a worker holds them."""
        return bool(self._doubtful)

    @property
    def empty(self) -> bool:
        """Whether every task has ended."""
        return not (self._count or self._holder_of or self._doubtful)

    def release_doubtful(self) -> None:
        """Make the doubtful tasks ready: whoever held them would have said so by now."""
        self._ready.extendleft(reversed(self._doubtful))
        self._doubtful.clear()
        self._count = _total(self._ready)

    def take(self, worker: str, want: int, now: float) -> list[tuple[int, int]]:
        """Lease up to this many tasks; return (index, attempt), ascending within each run of neighbours."""
        holder = self._heard(worker, now)
        taken: list[tuple[int, int]] = []
        while self._ready and len(taken) < want:
            first, last = self._ready.popleft()
            alone = self._lost.get(first, 0) >= SUSPECT
            if alone and taken:
                self._ready.appendleft((first, last))
                break
            if alone:
                want = 1
            stop = min(last + 1, first + want - len(taken))
            if stop <= last:
                self._ready.appendleft((stop, last))
            taken += [(index, self._lost.get(index, 0) + 1) for index in range(first, stop)]
        self._count -= len(taken)
        holder.held.update(taken)
        self._holder_of.update((index, worker) for index, _ in taken)
        return taken

    def hold(self, worker: str, held: Mapping[int, int], now: float) -> None:
        """Renew a worker's leases to what it says it holds.

        What it does not name it does not have (a reply was lost, or it gave tasks back): that is ready again, and
        counts as no attempt. What it names and nobody else holds is its own: it kept it while the server was down.
        """
        holder = self._heard(worker, now)
        if held == holder.held:
            return
        for index in [index for index in reversed(holder.held) if index not in held]:
            self._release(worker, index, lost=False)
        for index, attempt in held.items():
            if index not in holder.held and index not in self._holder_of and self._withdraw(index):
                holder.held[index] = attempt
                self._holder_of[index] = worker
                if attempt > 1:
                    self._lost[index] = max(self._lost.get(index, 0), attempt - 1)

    def put_back(self, worker: str, indexes: Sequence[int]) -> None:
        """Make tasks ready again that were taken, but never sent; that counts as no attempt."""
        for index in reversed(indexes):
            self._release(worker, index, lost=False)

    def settle(self, indexes: Iterable[int]) -> None:
        """Note that these tasks have ended, whoever reported it."""
        for index in indexes:
            worker = self._holder_of.pop(index, None)
            if worker is not None:
                self.holders[worker].held.pop(index, None)
            else:
                self._withdraw(index)
            self._lost.pop(index, None)

    def drop(self, worker: str) -> list[tuple[int, int]]:
        """Forget a worker that has ended; its tasks are ready again. Return what it held: (index, attempt)."""
        holder = self.holders.get(worker)
        if holder is None:
            return []
        lost = list(holder.held.items())
        for index, _ in reversed(lost):
            self._release(worker, index, lost=True)
        del self.holders[worker]
        return lost

    def silent(self, now: float) -> list[str]:
        """Return the workers not heard for longer than the lease."""
        return [worker for worker, holder in self.holders.items() if now - holder.seen > self.lease]

    def renew(self, worker: str, now: float) -> None:
        """Renew the leases of a worker, if it has any."""
        if worker in self.holders:
            self._heard(worker, now)

    def renew_all(self, now: float) -> None:
        """Renew every lease: while nobody listened, nobody could be heard."""
        for holder in self.holders.values():
            holder.seen = now

    def _heard(self, worker: str, now: float) -> Holder:
        holder = self.holders.setdefault(worker, Holder(now))
        holder.seen = now
        return holder

    def _release(self, worker: str, index: int, lost: bool) -> None:
        attempt = self.holders[worker].held.pop(index)
        del self._holder_of[index]
        if lost:
            self._lost[index] = attempt
        self._ready.appendleft((index, index))
        self._count += 1

    def _withdraw(self, index: int) -> bool:
        """Take an index out of the ranges of tasks that nobody holds; return whether it was there."""
        for ranges in (self._ready, self._doubtful):
            for position, (first, last) in enumerate(ranges):
                if first <= index <= last:
                    del ranges[position]
                    if index < last:
                        ranges.insert(position, (index + 1, last))
                    if first < index:
                        ranges.insert(position, (first, index - 1))
                    if ranges is self._ready:
                        self._count -= 1
                    return True
        return False


def _total(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)
