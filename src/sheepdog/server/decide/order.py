"""How many calls of an open request a worker gets, so that they begin in the order in which they came.

A call may wait for any other. So nobody gets one while another worker has some that it has perhaps not begun: whatever
runs for ever, all calls before it have begun, as in a process pool. A worker gets one call at a time. Only when many
wait, and the last ones were short, one worker gets a batch, and the others wait: for such calls one is enough. When one
of them takes long, its worker gives back what is behind it, and that is the next to begin, elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ...client import MAX_BATCH
from ...values.model import Outcome
from .queue import Queue
from .share import share

LONG = 0.05  # seconds: a call that runs for so long gives back those behind it
SHORT = 0.002  # seconds: the server cannot give out shorter calls one by one as fast as one worker runs them
FETCH = 0.01  # seconds in which a worker fetches a call
FLOOD = 20  # calls by which the next ones are judged
DEEP = 16  # calls that wait in a flood


class Order:
    """What the last calls of an open request tell of the next ones."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=FLOOD)  # seconds that calls took

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Note how calls ended."""
        self.recent.extend([outcome.seconds for outcome in outcomes[-FLOOD:]])

    def portion(self, queue: Queue, worker: str, ready: int, want: int) -> int:
        """Return how many of the ready calls a worker gets that wants so many more."""
        if is_held_up(queue, worker):
            return 0
        others = len(queue.holders.keys() - {worker})
        if not others:
            return share(ready, 1, want)  # another may be about to ask
        if self._is_flood(ready, others):
            return min(ready, want, MAX_BATCH)
        return 0 if queue.held_by([worker]) else 1

    def _is_flood(self, ready: int, others: int) -> bool:
        """Tell whether one worker is done with the next calls before others help that fetch each of them."""
        short = max(SHORT, FETCH / others)
        return ready >= DEEP and len(self.recent) == FLOOD and sum(self.recent) < FLOOD * short


def is_held_up(queue: Queue, worker: str = "") -> bool:
    """Tell whether a worker may get no calls now: another has some, or may have, that it has perhaps not begun.

    It begins with the first at once.
    """
    return queue.doubtful or any(len(holder.held) > 1 for name, holder in queue.holders.items() if name != worker)
