"""What is plain data."""

import argparse
import array
import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import threading
import types
from typing import Any

import numpy
import pytest

from sheepdog.bundle import plain
from sheepdog.bundle.plain import TooLarge, dump, is_plain
from sheepdog.client.state import Loader


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x")


class Own:
    pass


ROUND: list[Any] = [1]
ROUND.append(ROUND)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        2.5,
        1j,
        "text",
        b"bytes",
        bytearray(b"x"),
        range(3),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        datetime.datetime(2026, 1, 1),
        pathlib.Path("/a"),
        Color.RED,
        re.IGNORECASE,
        [1, (2, {3}), {"a": frozenset([4])}],
        collections.OrderedDict(a=1),
        collections.Counter("ab"),
        collections.deque([1]),
        collections.defaultdict(list, a=[1]),
        Point(1),
        types.SimpleNamespace(a=1),
        argparse.Namespace(a=[1]),
        array.array("d", [1]),
        numpy.arange(3),
        numpy.float64(1),
        {"a": numpy.zeros((2, 2))},
        ROUND,
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain(value: Any) -> None:
    assert is_plain(value)
    loaded = Loader(dump(value), "/there").load()
    assert type(loaded) is type(value)
    assert repr(loaded) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        len,
        Own,
        Own(),
        threading.Lock(),
        re.compile("x"),
        [1, [Own()]],
        {"a": len},
        {Own: 1},
        numpy.array([Own()]),
        numpy.ma.array([1]),
        collections.defaultdict(lambda: 1),
        types.SimpleNamespace(a=Own()),
        iter([1]),
        argparse,
    ],
    ids=lambda value: type(value).__name__,
)
def test_not_plain(value: Any) -> None:
    assert not is_plain(value)


def test_too_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_PARTS", 100)
    with pytest.raises(TooLarge, match="more than 100 parts"):
        is_plain([[1] * 60, [2] * 60])


def test_files_that_go_along_have_another_name_there() -> None:
    places = {"/home/a/project", "/home/a/project/table.csv"}
    value = ["/home/a/project", "/home/a/project/", pathlib.Path("/home/a/project/table.csv"), "/home/a/other", "x"]
    assert Loader(dump(value, places), "/there/files").load() == [
        "/there/files/home/a/project",
        "/there/files/home/a/project/",
        pathlib.Path("/there/files/home/a/project/table.csv"),
        "/home/a/other",
        "x",
    ]
