"""Ranges of numbers: as sets of numbers are, and as few as can be."""

import random
from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepdog.values.ranges import Range, Ranges, contains, gaps_of, runs_of, take_out, total, without

NUMBERS = st.sets(st.integers(1, 40)).map(sorted)


def numbers_in(ranges: list[Range]) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


@given(NUMBERS)
def test_runs_hold_the_numbers_and_are_as_few_as_can_be(numbers: list[int]) -> None:
    runs = [*runs_of(numbers)]
    assert numbers_in(runs) == numbers
    assert total(runs) == len(numbers)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(runs))


@given(NUMBERS, st.integers(0, 45))
def test_gaps_hold_all_other_numbers(numbers: list[int], last: int) -> None:
    numbers = [number for number in numbers if number <= last]
    assert numbers_in([*gaps_of(numbers, last)]) == [each for each in range(1, last + 1) if each not in numbers]


@pytest.mark.parametrize(
    ("first", "last", "left"),
    [
        (3, 7, []),
        (1, 9, []),
        (3, 3, [(4, 7)]),
        (7, 7, [(3, 6)]),
        (4, 5, [(3, 3), (6, 7)]),
        (1, 2, [(3, 7)]),
        (8, 9, [(3, 7)]),
    ],
)
def test_what_is_left_of_a_range(first: int, last: int, left: list[Range]) -> None:
    assert without((3, 7), first, last) == left


@given(NUMBERS, st.randoms(use_true_random=False), st.integers(1, 40))
def test_a_number_is_taken_out_of_ranges_in_any_order(numbers: list[int], shuffler: random.Random, number: int) -> None:
    runs = [*runs_of(numbers)]
    shuffler.shuffle(runs)
    left = deque(runs)
    assert contains(runs, number) == (number in numbers)
    assert take_out(left, number) == (number in numbers)
    assert numbers_in([*left]) == [each for each in numbers_in(runs) if each != number]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60), st.integers(0, 5))))
def test_ranges_are_a_set_of_numbers(steps: list[tuple[bool, int, int]]) -> None:
    ranges, numbers, last = Ranges(), set[int](), 0
    for adding, number, more in steps:
        if adding:
            first, last = last + 1 + number % 2, last + 1 + number % 2 + more
            ranges.add(first, last)
            numbers |= set(range(first, last + 1))
        else:
            end = number
            while number in numbers and end + 1 in numbers and end < number + more:
                end += 1
            ranges.remove(number, end)
            numbers -= set(range(number, end + 1))
        assert numbers_in([*ranges]) == sorted(numbers)
        assert bool(ranges) == bool(numbers)
        assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))
