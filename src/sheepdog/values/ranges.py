"""Ranges of numbers, (first, last): how tasks are kept and named that are neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sortedcontainers import SortedDict

Range = tuple[int, int]


def runs_of(numbers: Iterable[int]) -> Iterator[Range]:
    """Yield ascending numbers as ranges."""
    start = previous = None
    for number in numbers:
        if start is None or previous is None:
            start = number
        elif number != previous + 1:
            yield start, previous
            start = number
        previous = number
    if start is not None and previous is not None:
        yield start, previous


def gaps_of(numbers: Iterable[int], last: int, first: int = 1) -> Iterator[Range]:
    """Yield the ranges between first and last in which none of these ascending numbers is."""
    expected = first
    for number in numbers:
        if number > expected:
            yield expected, number - 1
        expected = number + 1
    if expected <= last:
        yield expected, last


def gaps_between(ranges: Iterable[Range], last: int) -> Iterator[Range]:
    """Yield the ranges between 1 and last in which none of these ascending ranges is."""
    expected = 1
    for start, end in ranges:
        if start > expected:
            yield expected, start - 1
        expected = end + 1
    if expected <= last:
        yield expected, last


def total(ranges: Iterable[Range]) -> int:
    """Return how many numbers are in ranges."""
    return sum(last - first + 1 for first, last in ranges)


def without(run: Range, first: int, last: int) -> list[Range]:
    """Return what is left of a range without the numbers from first to last: two ranges, one, or none."""
    parts = (run[0], min(run[1], first - 1)), (max(run[0], last + 1), run[1])
    return [part for part in parts if part[0] <= part[1]]


class Ranges:
    """A set of numbers, kept as few ranges in ascending order. Each step takes a time that hardly grows with them."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._lasts: SortedDict = SortedDict(ranges)  # the first of each -> its last
        self.count = total(self)
        """How many numbers there are."""

    def __iter__(self) -> Iterator[Range]:
        return iter(list(self._lasts.items()))

    def __bool__(self) -> bool:
        return bool(self._lasts)

    def __contains__(self, number: int) -> bool:
        return self._around(number) is not None

    @property
    def first(self) -> int:
        """The lowest number. Raises IndexError if there is none."""
        return int(self._lasts.peekitem(0)[0])

    def _around(self, number: int) -> Range | None:
        """Return the range that a number is in."""
        for first in self._lasts.irange(maximum=number, reverse=True):
            last = self._lasts[first]
            return (first, last) if number <= last else None
        return None

    def add(self, first: int, last: int) -> None:
        """Add numbers of which none is there."""
        self.count += last - first + 1
        before = self._around(first - 1)
        if before:
            first = before[0]
        self._lasts[first] = self._lasts.pop(last + 1, last)

    def remove(self, first: int, last: int = 0) -> bool:
        """Take a number out, or all from it to the last, which must be neighbours; tell whether they were there."""
        found = self._around(first)
        if found is None:
            return False
        last = max(first, last)
        self.count -= last - first + 1
        del self._lasts[found[0]]
        self._lasts.update(without(found, first, last))
        return True

    def pop(self, most: int) -> Range:
        """Take out the first number and its next neighbours, up to so many."""
        first, last = self._lasts.popitem(0)
        end = min(last, first + most - 1)
        if end < last:
            self._lasts[end + 1] = last
        self.count -= end - first + 1
        return first, end
