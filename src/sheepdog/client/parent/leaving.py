"""The end of a worker: when its time is over, and how it spends the last of it."""

import collections
import time

from ..wire.limits import NOTICE
from .signals import WARNINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .signals import Signals

Leaving = collections.namedtuple("Leaving", "reason interrupt until end")
# reason     why, for people
# interrupt  when a task that runs is ended
# until      when the worker ends
# end        when it will be killed


class Walltime(object):
    """The time that a worker has, as the scheduler counts it from its start."""

    def __init__(self, start: float, secret: "dict[str, Any]") -> None:
        self.seconds = secret.get("time")  # type: float | None
        self.notice = secret.get("notice") or NOTICE  # type: float
        self.end = start + self.seconds if self.seconds else float("inf")
        self.margin = min(self.notice, 0.1 * self.seconds) if self.seconds else 0.0
        self.last = self.end - self.margin  # when no task may run any more

    @property
    def tasks_end(self) -> "float | None":
        """When tasks are ended for it, by the clock that they know; None if they are not."""
        if not self.seconds:
            return None
        return time.time() + self.end - time.monotonic() - time_to_deliver(self.margin)

    def look(self, signals: "Signals") -> "Leaving | None":
        """Return how to leave if a warning has come, or if this time is nearly over."""
        if signals.warning:
            return leave(WARNINGS[signals.warning], min(self.end, signals.warned + self.notice))
        if self.seconds and time.monotonic() >= self.last:
            return leave("its walltime of %g s was over" % self.seconds, self.end)
        return None

    def too_short(self) -> Leaving:
        """Return how to leave if no task fits into what is left."""
        return leave("its walltime ends before another task could", min(self.end, time.monotonic() + self.notice))


def leave(reason: str, end: float) -> Leaving:
    """Return how to leave before a time: the last of it is for ending the task and delivering."""
    last = time_to_deliver(end - time.monotonic())
    return Leaving(reason, end - last, end - last / 4, end)


def time_to_deliver(seconds: float) -> float:
    """Return which part of the time that a worker has left is for ending its task and delivering."""
    return min(10.0, max(0.5, seconds / 3))
