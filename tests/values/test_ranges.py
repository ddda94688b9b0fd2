"""Ranges of numbers: as sets of numbers are, and as few as can be."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepdog.values.ranges import Range, Ranges, gaps_of, runs_of, total, without

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


STEPS = st.tuples(st.sampled_from(["add", "remove", "pop"]), st.integers(1, 60), st.integers(0, 5))


@given(NUMBERS, st.lists(STEPS))
def test_ranges_are_a_set_of_numbers(start: list[int], steps: list[tuple[str, int, int]]) -> None:
    ranges, numbers = Ranges(runs_of(start)), set(start)
    for step, number, more in steps:
        if step == "add":
            end = next(end for end in range(number, 100) if end == number + more or end + 1 in numbers)
            if number not in numbers:
                ranges.add(number, end)
                numbers |= set(range(number, end + 1))
        elif step == "remove":
            end = number
            while number in numbers and end + 1 in numbers and end < number + more:
                end += 1
            assert ranges.remove(number, end) == (number in numbers)
            numbers -= set(range(number, end + 1))
        elif numbers:
            first, last = ranges.pop(more + 1)
            assert first == min(numbers)
            assert set(range(first, last + 1)) <= numbers
            assert last - first == more or last + 1 not in numbers
            numbers -= set(range(first, last + 1))
        assert numbers_in([*ranges]) == sorted(numbers)
        assert bool(ranges) == bool(numbers)
        assert ranges.count == len(numbers)
        assert not numbers or ranges.first == min(numbers)
        assert (number in ranges) == (number in numbers)
        assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))
