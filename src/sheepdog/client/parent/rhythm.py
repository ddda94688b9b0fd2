"""The rhythm: when the worker calls the server, and for how long it tries."""

import random
import time

from ..link import Later, Refused
from ..wire.limits import LEAVING_BEAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..link import Answer, Link


class Rhythm(object):
    """When the next call is due. Calls that fail are made again, after pauses that grow."""

    def __init__(self, link: "Link", log: "Callable[[str], None]") -> None:
        self.link = link
        self.log = log
        self.next_call = 0.0  # when it is due
        self.failures = 0  # since the last answer
        self.failing_since = 0.0
        self.longest = float("inf")  # pause
        self.stand_still = float("inf")  # seconds that a call may

    def attempt(self, call: "Callable[[float], Answer]", patience: float) -> "Answer | None":
        """Make a call, which is given its deadline; return the answer. None if it failed: the next is due later.

        Refused if there has been no answer for longer than patience.
        """
        where = self.link.where
        try:
            answer = call(time.monotonic() + self.stand_still)
        except Later as later:
            self._wait_longer(later, patience, where)
            return None
        if self.failures:
            self.log("the server answers again")
        self.failures = 0
        return answer

    @property
    def pause(self) -> float:
        """The seconds until the next call is due; less than nothing if it is."""
        return self.next_call - time.monotonic()

    def beat(self) -> None:
        """Let the next call be the next sign of life."""
        self.call_in(self.link.silence * random.uniform(0.8, 1.2))

    def call_in(self, seconds: float) -> None:
        """Let the next call be so much later than now."""
        self.next_call = time.monotonic() + min(seconds, self.longest)

    def call_within(self, seconds: float) -> None:
        """Let the next call be no later than this, from now; but a server that does not answer keeps its pause."""
        if not self.failures:
            self.next_call = min(self.next_call, time.monotonic() + seconds)

    def hurry(self, stand_still: float) -> None:
        """Let the next call be now, and those behind it soon; each ends when nothing moves for so many seconds."""
        self.longest = LEAVING_BEAT
        self.stand_still = stand_still
        self.call_in(0.0)

    def _wait_longer(self, later: Later, patience: float, where: str) -> None:
        self.failures += 1
        now = time.monotonic()
        if self.failures == 1:
            self.failing_since = now
        if now - self.failing_since > patience:
            raise Refused("no answer from the server for %d s; the last error was: %s" % (patience, later))
        if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
            self.log("cannot reach %s (%s); trying on" % (where, later))
        # Even the longest pause is shorter than a lease, so that the next server hears of what this worker holds.
        pause = random.uniform(0.2, 1.0) * min(3 * self.link.silence, 0.25 * 2 ** min(self.failures, 9))
        self.call_in(max(pause, later.seconds * random.uniform(1.0, 1.5)))
        if self.link.where != where:
            self.log("the server is now at %s" % self.link.where)
            self.call_in(0.0)
