"""Whether a task runs again, by what ended its last attempt; and whether a request is worth going on with.

Plain rules. What a task has behind it is its past; what the user allows is the policy.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from ...config import Config
from ...config.values import parse_factor
from ...values.model import ALIKE, Kind, Outcome

LONGEST_DELAY = 300.0  # seconds
MAX_INTERRUPTIONS = 10  # attempts that the scheduler may end
MAX_LEVEL = 3  # how often resources are raised
FAILURES = (Kind.RAISED, Kind.DIED, Kind.TIMEOUT, Kind.MEMORY)  # the task's own
FAIL_FAST_TASKS = 100  # a request of fewer is not stopped early


class Past(NamedTuple):
    """What a task has behind it."""

    attempts: int = 0
    """Begun, as far as is known."""
    failures: int = 0
    losses: int = 0
    interruptions: int = 0
    level: int = 0
    """How often it needs the resources of its workers raised."""

    def counted(self, attempt: int) -> Past:
        """Return this with an attempt that is nobody's fault."""
        return self._replace(attempts=max(self.attempts, attempt))

    def advanced(self) -> Past:
        """Return this with a new checkpoint: to be interrupted again and again is how a long task gets on."""
        return self._replace(interruptions=0)


FRESH = Past()


class Policy(NamedTuple):
    """What the user allows. on_oom and on_walltime are factors, 0 if resources are not to be raised."""

    retries: int = 0
    retry_delay: float = 5.0
    max_losses: int = 3
    on_oom: float = 0.0
    on_walltime: float = 0.0
    fail_fast: int = 20

    @classmethod
    def of(cls, config: Config) -> Policy:
        """Return the policy of a request's configuration."""
        return cls(
            config.retries,
            config.retry_delay,
            config.max_losses,
            factor(config.on_oom),
            factor(config.on_walltime),
            config.fail_fast,
        )

    def judge(self, past: Past, kind: Kind, attempt: int) -> tuple[Past, float | None]:
        """Add an attempt that ended in this way to a task's past.

        Return that, and the seconds after which another attempt may begin; None if there is to be none.
        """
        wants_more = (kind == Kind.MEMORY and self.on_oom) or (kind == Kind.INTERRUPTED and self.on_walltime)
        more = bool(wants_more) and past.level < MAX_LEVEL
        failed = kind in FAILURES and not more
        past = Past(
            max(past.attempts, attempt),
            past.failures + failed,
            past.losses + (kind == Kind.LOST),
            past.interruptions + (kind == Kind.INTERRUPTED),
            past.level + more,
        )
        if failed and past.failures <= self.retries:
            delay = min(LONGEST_DELAY, self.retry_delay * 2 ** min(past.failures - 1, 10))
            return past, delay * random.uniform(0.5, 1.0)
        interrupted = kind == Kind.INTERRUPTED and past.interruptions <= MAX_INTERRUPTIONS
        if more or interrupted or (kind == Kind.LOST and past.losses < self.max_losses):
            return past, 0.0
        return past, None


def factor(text: str | None) -> float:
    """Return the number in a text such as "2x"; 0 for None."""
    return parse_factor(text) if text else 0.0


class Breaker:
    """Watches the first outcomes of a request: if all are the same error, the rest would be, too."""

    def __init__(self, limit: int, tasks: int) -> None:
        self.limit = limit if tasks >= FAIL_FAST_TASKS else 0
        self.like = ""
        self.count = 0
        self.hosts: set[str] = set()  # where they ran

    def feed(self, outcome: Outcome) -> str:
        """Take note of an outcome that ended its task. Return why not to go on, or an empty text."""
        if not self.limit:
            return ""
        like = "" if outcome.kind == Kind.RESULT else likeness(outcome)
        if not like or (self.like and like != self.like):
            self.limit = 0  # they are not alike: never mind from now on
            return ""
        self.like = like
        self.count += 1
        self.hosts.add(outcome.host)
        if self.count < self.limit:
            return ""
        return f"the first {self.count} {ALIKE}{like}"


def likeness(outcome: Outcome) -> str:
    """Return what two alike errors have in common: the exception's type and line, or the other cause."""
    summary, _, rest = outcome.text.partition("\n")
    if outcome.kind == Kind.MEMORY:
        return "out of memory"
    places = re.findall(r'^  File "(.*?)", line (\d+), in (.*)$', rest, re.MULTILINE)
    if outcome.kind != Kind.RAISED or not places:
        return summary
    path, line, name = places[-1]
    return f"{summary.partition(':')[0]} at line {line} of {path.rpartition('/')[2]}, in {name}"
