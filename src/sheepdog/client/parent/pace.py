"""The pace: how many tasks to ask for, as the last ones took."""

import collections
import time

from ..wire.limits import (
    BATCH_MOST,
    BATCH_REPLIES,
    BATCH_SECONDS,
    BATCH_STUCK,
    MAX_BATCH,
    RECENT_REPLIES,
    RECENT_TASKS,
)
from ..wire.records import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.outcomes import Outcome


class Pace(object):
    """How long tasks take, and whether there is time for more of them."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline  # when the last one must have ended
        self.recent = collections.deque(maxlen=RECENT_TASKS)  # type: collections.deque[float]  # seconds of tasks
        self.ended = 0  # tasks of the present batch
        self.spent = 0.0  # seconds on these
        self.want = 1  # tasks of the next batch
        self.replaced = 0.0  # when the child was, if it has had no outcome yet
        self.replies = collections.deque(maxlen=RECENT_REPLIES)  # type: collections.deque[float]  # seconds until each

    def begin(self) -> None:
        """Note that a batch begins."""
        self.ended, self.spent = 0, 0.0

    def replace(self) -> None:
        """Note that a fresh child is made. What it costs is part of the work."""
        self.replaced = time.monotonic()

    def note(self, found: "list[Outcome | Records]") -> None:
        """Note that tasks have ended."""
        seconds = []  # type: list[float]
        for each in found:
            seconds += each.seconds if isinstance(each, Records) else [each.seconds]
        least = time.monotonic() - self.replaced if self.replaced else 0.0
        self.replaced = 0.0
        self.ended += len(seconds)
        self.spent += max(sum(seconds), least)
        if self.deadline != float("inf"):
            self.recent.extend(seconds[-RECENT_TASKS:])

    def answered(self, seconds: float) -> None:
        """Note in what time the server has replied."""
        self.replies.append(seconds)

    @property
    def aim(self) -> float:
        """The seconds of work that a batch should hold: more when the server is slow, for it has many workers."""
        return min(BATCH_MOST, max(BATCH_SECONDS, BATCH_REPLIES * min(self.replies, default=0.0)))

    @property
    def patience(self) -> float:
        """The seconds in which a batch should have ended, and in which what has ended is reported."""
        return max(BATCH_STUCK, 2 * self.aim)

    def adapt(self) -> None:
        """Judge the next batch by the present one, which has ended."""
        if self.ended:
            each = max(self.spent / self.ended, 1e-6)
            self.want = max(1, min(MAX_BATCH, 20 * self.want, int(self.aim / each)))

    def affordable(self, held: int) -> int:
        """Return how many tasks to ask for beside those held: what is wanted, if the time is enough for it."""
        if self.deadline == float("inf") or not self.recent:
            return self.want
        left = self.deadline - time.monotonic() - max(self.recent)
        each = max(1e-6, sum(self.recent) / len(self.recent))
        return max(0, min(self.want, int(1 + left / each) - held)) if left > 0 else 0
