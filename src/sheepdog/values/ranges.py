"""Ranges of numbers, (first, last): how tasks are kept and named that are neighbours."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, MutableSequence

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


def gaps_of(numbers: Iterable[int], last: int) -> Iterator[Range]:
    """Yield the ranges between 1 and last in which none of these ascending numbers is."""
    expected = 1
    for number in numbers:
        if number > expected:
            yield expected, number - 1
        expected = number + 1
    if expected <= last:
        yield expected, last


def total(ranges: Iterable[Range]) -> int:
    """Return how many numbers are in ranges."""
    return sum(last - first + 1 for first, last in ranges)


def contains(ranges: Iterable[Range], number: int) -> bool:
    """Tell whether a number is in one of these ranges."""
    return any(first <= number <= last for first, last in ranges)


def without(run: Range, first: int, last: int) -> list[Range]:
    """Return what is left of a range without the numbers from first to last: two ranges, one, or none."""
    parts = (run[0], min(run[1], first - 1)), (max(run[0], last + 1), run[1])
    return [part for part in parts if part[0] <= part[1]]


def take_out(ranges: MutableSequence[Range], number: int) -> bool:
    """Take a number out of ranges, which may be in any order; return whether it was there."""
    for place, run in enumerate(ranges):
        if run[0] <= number <= run[1]:
            del ranges[place]
            for part in reversed(without(run, number, number)):
                ranges.insert(place, part)
            return True
    return False


class Ranges:
    """Ascending numbers, kept as few ranges: to take some out takes no longer if there are many."""

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.lasts: list[int] = []

    def __iter__(self) -> Iterator[Range]:
        return zip(self.firsts.copy(), self.lasts.copy(), strict=True)

    def __bool__(self) -> bool:
        return bool(self.firsts)

    def add(self, first: int, last: int) -> None:
        """Add numbers above all others."""
        if self.lasts and self.lasts[-1] == first - 1:
            self.lasts[-1] = last
        else:
            self.firsts.append(first)
            self.lasts.append(last)

    def remove(self, first: int, last: int = 0) -> None:
        """Take a number out, if it is there, or all from it to the last: these must be neighbours."""
        place = bisect_right(self.firsts, first) - 1
        if place < 0 or self.lasts[place] < first:
            return
        parts = without((self.firsts[place], self.lasts[place]), first, max(first, last))
        self.firsts[place : place + 1] = [first for first, _ in parts]
        self.lasts[place : place + 1] = [last for _, last in parts]
