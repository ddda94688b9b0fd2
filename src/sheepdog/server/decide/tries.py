"""How often workers may be submitted again, and when: submissions that are of no use have a bound."""

from __future__ import annotations

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0  # seconds before workers are submitted again after that has failed


class Tries:
    """The submissions of one request's workers after the first."""

    def __init__(self, limit: int, fruitless: int, now: float) -> None:
        self.limit = limit
        self.fruitless = fruitless  # submissions in a row that were of no use, or not for long
        self.under_way = False
        self.latest = now  # when the latest array job was submitted
        self.not_before = 0.0  # when workers may be submitted again
        self.failures = 0  # submissions in a row that did not succeed
        self._counted = True  # whether the one under way counts

    def affords(self, first: bool) -> bool:
        """Tell whether workers may be submitted again. first: the first of their kind, which repeats nothing."""
        return first or self.fruitless < self.limit

    def may_begin(self, now: float) -> bool:
        """Tell whether it is time to submit."""
        return not self.under_way and now >= self.not_before

    def begin(self, first: bool) -> None:
        """Note that workers are about to be submitted again."""
        self.under_way = True
        self._counted = not first
        self.fruitless += self._counted

    def succeed(self, now: float) -> None:
        """Note that they have been."""
        self.under_way = False
        self.failures = 0
        self.latest = now

    def fail(self, now: float) -> None:
        """Note that they have not been; the pauses grow."""
        self.under_way = False
        self.failures += 1
        self.not_before = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 10))

    def forgive(self) -> bool:
        """Let the latest one not count, as nobody was at fault. Return whether it did."""
        self.fruitless -= self._counted
        return self._counted

    def begin_anew(self) -> None:
        """Forget what was of no use: workers have been, or there is new work."""
        self.fruitless = 0
