"""How many calls of an open request a worker gets: they begin in the order in which they came.

A call may wait for another, so none may lie behind one that runs while a later one begins. A worker therefore gets one
call at a time, unless many wait and the last ones were all short: then it gets a batch, as of any other request, and
gives back what it has not begun when a call takes long. These calls come first; until then nobody begins a later one.
Should a flood end in several workers at once, so that later calls run and wait for these, one more worker runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...values.model import Outcome
from .share import share

LONG = 0.1  # seconds: a call that runs for so long gives back those behind it
FLOOD = 20  # short calls in a row, since there was none that waited
DEEP = 16  # calls for each worker that wait in a flood
STILL = 10.0  # seconds in which no call begins, though some wait that came before those that run
SILENCE = 2.0  # seconds: a worker with a batch that says nothing for so long does not hold up others


class Order:
    """What the last calls of an open request tell of the next ones."""

    def __init__(self) -> None:
        self.short = 0  # calls in a row that were, since there was none that waited

    def note(self, outcomes: Sequence[Outcome], empty: bool) -> None:
        """Note how calls ended; empty: there are no others."""
        if outcomes:
            long = max(outcome.seconds for outcome in outcomes) > LONG
            self.short = 0 if long else self.short + len(outcomes)
        if empty:
            self.short = 0

    def portion(self, ready: int, own: int, others: Sequence[int], want: int) -> int:
        """Return how many of the ready calls a worker gets that has some of its own, and wants so many more.

        others: how many each of the other workers has.
        """
        if not others or self._is_flood(ready, 1 + len(others)):
            return share(ready, 1 + len(others), want)
        return 0 if own or has_batch(others) else 1

    def available(self, ready: int, held: Sequence[int]) -> int:
        """Return how many of the ready calls workers without any may have now; held: how many each worker has."""
        return ready if not has_batch(held) or self._is_flood(ready, len(held)) else 0

    def _is_flood(self, ready: int, workers: int) -> bool:
        return self.short >= FLOOD and ready >= DEEP * workers


def has_batch(held: Iterable[int]) -> bool:
    """Tell whether a worker has calls that it has perhaps not begun: it begins with the first at once."""
    return any(count > 1 for count in held)
