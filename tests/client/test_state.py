"""Plain values that came, and what is made of those that are here."""

import argparse
import array
import collections
import types
from typing import Any

import numpy as np
import pytest

from sheepdog.client.state import Merger, alike

FILLED = [
    ([1], [2, 3]),
    ({"a": 1}, {"b": 2}),
    ({1}, {2}),
    (bytearray(b"a"), bytearray(b"bc")),
    (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
    (collections.Counter("a"), collections.Counter("b")),
    (collections.defaultdict(list, a=[1]), collections.defaultdict(list, b=[2])),
    (collections.deque([1], 3), collections.deque([2, 3], 3)),
    (array.array("i", [1]), array.array("i", [2, 3])),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(b=2)),
    (argparse.Namespace(a=1), argparse.Namespace(b=2)),
    (np.zeros(3), np.ones(3)),
]
REPLACED = [
    (1, 2),
    (1.0, 1),
    (0.0, -0.0),
    (True, 1),
    ([1], (1,)),
    (None, [1]),
    ((1,), (2,)),
    (collections.deque([1], 3), collections.deque([1], 4)),
    (collections.defaultdict(list), collections.defaultdict(dict)),
    (array.array("i", [1]), array.array("d", [1])),
    (np.zeros(3), np.zeros(4)),
    (np.zeros(3), np.zeros(3, int)),
]
Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(("old", "new"), FILLED)
def test_a_container_stays_itself(old: Any, new: Any) -> None:
    assert not alike(old, new)
    assert Merger().merge(old, new) is old
    assert alike(old, new)
    if isinstance(old, dict):
        assert [*old] == [*new]


@pytest.mark.parametrize(("old", "new"), REPLACED)
def test_what_cannot_be_that_is_another(old: Any, new: Any) -> None:
    assert not alike(old, new)
    assert Merger().merge(old, new) is new


@pytest.mark.parametrize(
    "make", [lambda: 1.5, lambda: "x" * 3, lambda: (1, [2]), lambda: np.float64(2), lambda: {1: [2]}]
)
def test_what_is_so_already_is_left(make: Any) -> None:
    old = make()
    assert Merger().merge(old, make()) is old


def test_what_is_in_it_stays_itself() -> None:
    inner, buffer = [1], np.zeros(2)
    last: dict[str, list[int]] = {"x": []}
    old = {"inner": inner, "tuple": (1, buffer), "last": [0, last]}
    Merger().merge(old, {"inner": [2], "tuple": (2, np.ones(2)), "last": [0, {"x": [3]}, 4]})
    assert (inner, [*buffer], last) == ([2], [1, 1], {"x": [3]})
    assert old["inner"] is inner
    assert old["tuple"][1] is buffer
    assert old["last"][1] is last
    assert Merger().merge((Point(1, inner),), (Point(5, [6]),)) == (Point(5, [6]),)
    assert inner == [6]


def test_in_itself() -> None:
    old: list[Any] = [1]
    new: list[Any] = [2]
    old.append(old)
    new.append(new)
    assert Merger().merge(old, new) is old
    assert old[0] == 2
    assert old[1] is old


def test_one_that_came_as_two_is_two() -> None:
    one = [1]
    merger = Merger()
    assert merger.merge(one, [2]) is one
    other = merger.merge(one, [3])
    assert (one, other) == ([2], [3])


def test_two_that_came_as_one_are_one() -> None:
    merger, new = Merger(), [3]
    first = merger.merge([1], new)
    assert merger.merge([2], new) is first


def test_one_that_came_twice_the_same_is_one() -> None:
    """As when two modules know it, each of which comes by itself."""
    one, merger = np.zeros(2), Merger()
    assert merger.merge(one, np.ones(2)) is one
    assert merger.merge(one, np.ones(2)) is one
