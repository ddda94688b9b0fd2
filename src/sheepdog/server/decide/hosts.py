"""Which hosts of a request are set aside: where its tasks or workers fail alike, while others do well.

    unproven ── a task ends well ──> good <── a task ends well ── held back, set aside
        │                             │                               ^        │
        └─── a task fails ──> wary: one task at a time                │        └ one task now and then
        │                             │                               │
        │                             └── ENOUGH in a row fail alike ─┘
        └─── workers end, and none has called ──> barren

A host is held back while others may show that it does worse than they, and set aside once they have. If all hosts fail
alike, or there are no others, it is the function's fault: then all goes on. A host that has done well is wary no sooner
than when it is held back: tasks may fail. Plain logic: no clock of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ENOUGH = 5  # tasks in a row that fail alike
UNLIKELY = 0.001  # as likely as this, a host would fare so by chance
PAUSE, LONGEST = 60.0, 3600.0  # seconds between two tasks for a host that is set aside or held back: they grow
ELSEWHERE = 60.0  # seconds that a task waits for a host on which it has not failed
ALONE = 60.0  # seconds that a host is held back while there is no other yet
MANY = 1 << 20  # tasks: no bound
COMMON = 3  # hosts on which all workers end without a word: then it is not the hosts
MANY_SHUNNED = 1000  # tasks after which those are forgotten whose time is over
MOST = 100  # kinds of failure that are told apart on a host


@dataclass(slots=True)
class HostSeen:
    """What is known of a host."""

    good: int = 0
    """Tasks that ended well."""
    latest: float = float("-inf")
    """When the last of them did."""
    like: str = ""
    """What the last failures have in common."""
    row: int = 0
    """How many of these there were in a row."""
    since: float = 0.0
    """When the first of them was."""
    tried: float = float("-inf")
    """When it last got a task while it was held back or set aside."""
    failed: float = float("-inf")
    """When a task last failed there."""
    aside: str = ""
    """Why it is set aside."""
    since_aside: float = 0.0
    """Since when it is."""
    kinds: dict[str, int] = field(default_factory=dict)
    """How often tasks have failed, by what they have in common."""
    shunned: dict[int, float] = field(default_factory=dict)
    """The tasks that failed there and are to run again, and until when they had better go elsewhere."""

    @property
    def pause(self) -> float:
        """The seconds after which it may be tried again."""
        return min(LONGEST, PAUSE * float(2 ** min(max(0, self.row - ENOUGH), 10)))


class Change(NamedTuple):
    """A host that is set aside, or is no longer. text is for people."""

    host: str
    aside: bool
    text: str


class Hosts:
    """The hosts of one request, by name."""

    def __init__(self, several: bool) -> None:
        self.several = several  # whether there can be more than one
        self.seen: dict[str, HostSeen] = {}
        self.barren: dict[str, str] = {}  # hosts, by their short names, where none can run the function -> why
        self.avoided: frozenset[str] = frozenset()  # where the latest workers were not to go
        self.planned: frozenset[str] = frozenset()  # where those that are being submitted are not to go

    # --- what is heard

    def note(self, host: str, good: int, failures: Iterable[str], now: float) -> Change | None:
        """Take note of how tasks ended on a host: how many well, and for the others what they have in common."""
        seen = self.seen.get(host)
        if seen is None:
            seen = self.seen[host] = HostSeen()
        failed = False
        for like in failures:
            failed = True
            if like in seen.kinds or len(seen.kinds) < MOST:
                seen.kinds[like] = seen.kinds.get(like, 0) + 1
            if like != seen.like or not seen.row:
                seen.like, seen.row, seen.since = like, 0, now
            seen.row += 1
        if failed:
            seen.failed = now
        if good:
            seen.good, seen.latest = seen.good + good, now
            seen.row = 0
            if seen.aside:
                seen.aside = ""
                return Change(host, False, f"a task on {host} has ended well; it gets tasks as before")
        return self.judge(host, now) if failed else None

    def greet(self, host: str) -> None:
        """Take note of a worker that has called from there."""
        self.seen.setdefault(host, HostSeen())

    def welcome(self, host: str) -> None:
        """Take note of a worker that can run the function."""
        self.barren.pop(short(host), None)

    def refuse(self, host: str, why: str) -> None:
        """Take note of a worker that cannot."""
        self.barren[short(host)] = why

    def bury(self, host: str, how: str) -> None:
        """Take note of a worker that ended on a host without having called."""
        if host and short(host) not in map(short, self.seen):
            self.barren[short(host)] = how

    def shun(self, host: str, task: int, until: float, now: float) -> None:
        """Let a task that failed on a host wait a while for another one."""
        if host in self.seen:
            shunned = self.seen[host].shunned
            if len(shunned) % MANY_SHUNNED == MANY_SHUNNED - 1:
                self.seen[host].shunned = shunned = {each: end for each, end in shunned.items() if end > now}
            shunned[task] = until + ELSEWHERE

    # --- what follows

    def judge(self, host: str, now: float) -> Change | None:
        """Set a host aside that does worse than the others, if it has not been."""
        seen = self.seen[host]
        if not self.several or seen.aside or seen.row < ENOUGH:
            return None
        others = [other for name, other in self.seen.items() if name != host and not other.aside]
        good = sum(other.good for other in others)
        bad = sum(other.kinds.get(seen.like, 0) for other in others)
        meanwhile = any(other.latest >= seen.since for other in others)
        if not meanwhile or ((bad + 1) / (good + bad + 2)) ** seen.row >= UNLIKELY:
            return None
        seen.since_aside = now
        seen.aside = f"the last {seen.row} tasks on {host} failed alike, while others do well elsewhere: {seen.like}"
        return Change(host, True, f"{seen.aside}. It gets one now and then, to see whether it is well again")

    def bound(self, host: str, own: int, held: int, present: Collection[str], more: bool, now: float) -> int:
        """Return how many tasks a worker on a host may get now.

        own are those that it has, held those that all workers on its host have. present are the hosts with workers;
        more tells whether others may come.
        """
        seen = self.seen.get(host)
        if not self.several or seen is None:
            return MANY
        if not self.is_suspect(host):
            return MANY if seen.good or not own else 0
        if not self._has_company(host, present, more, now):
            return MANY
        if seen.row < ENOUGH:
            return max(0, 1 - held)
        return 1 if not held and now - seen.tried >= seen.pause else 0

    def shunned(self, host: str, present: Iterable[str]) -> Mapping[int, float]:
        """Return the tasks that a host had better not have, and until when: there is a better one for them."""
        seen = self.seen.get(host)
        if seen is None or not seen.shunned:
            return {}
        others = ({*present} & self.seen.keys()) - {host}
        better = [self.seen[other].shunned for other in others if not self.is_suspect(other)]
        nowhere = set(better[0]).intersection(*better[1:]) if better else seen.shunned.keys()
        return {task: until for task, until in seen.shunned.items() if task not in nowhere}

    def has_failed(self, task: int) -> bool:
        """Tell whether a task has lately failed on any of the hosts, and was to run again."""
        return any(task in seen.shunned for seen in self.seen.values())

    def is_suspect(self, host: str) -> bool:
        """Tell whether a host is wary, held back or set aside."""
        seen = self.seen.get(host)
        return seen is not None and bool(seen.row) and (not seen.good or seen.row >= ENOUGH or bool(seen.aside))

    def is_given_up(self, host: str) -> bool:
        """Tell whether a host is set aside and one worker there is enough: none of its tasks has done well, or another
        one has failed since.
        """
        seen = self.seen.get(host)
        return seen is not None and bool(seen.aside) and (not seen.good or seen.failed > seen.tried > seen.since_aside)

    def has_company(self, host: str, present: Collection[str], more: bool, now: float) -> bool:
        """Tell whether others do better than a host that fails, or may."""
        return self.several and host in self.seen and self._has_company(host, present, more, now)

    def take(self, host: str, now: float) -> None:
        """Note that a host gets a task."""
        self.seen[host].tried = now

    def to_avoid(self) -> frozenset[str]:
        """Return the hosts where no workers should go."""
        if not self.several:
            return frozenset()
        return frozenset(self.barren) | {short(host) for host, seen in self.seen.items() if seen.aside}

    def better_elsewhere(self) -> bool:
        """Tell whether workers that ended without a word may do better elsewhere: a host was found that is to blame."""
        return self.several and bool(self.barren.keys() - self.avoided) and len(self.barren) < COMMON

    def _has_company(self, host: str, present: Collection[str], more: bool, now: float) -> bool:
        """Tell whether others do better, or may."""
        mine = self.seen[host]
        others = {name: seen for name, seen in self.seen.items() if name != host}
        if any(seen.latest >= mine.since and seen.row < ENOUGH for seen in others.values()):
            return True
        here = [seen for name, seen in others.items() if name in present]
        if here:
            return any(seen.row < ENOUGH for seen in here)
        return bool(mine.aside) or (more and now - mine.since < ALONE)


def short(host: str) -> str:
    """Return the first part of a host's name: schedulers and hosts differ in what they add."""
    return host.partition(".")[0]
