"""How values travel: as bytes, and back."""

import functools
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sheepdog import client
from sheepdog.errors import ArgumentsError, SerialisationError
from sheepdog.values import serialisation
from sheepdog.values.serialisation import (
    deserialise,
    deserialise_arguments,
    name_of,
    serialise_arguments,
    serialise_function,
)
from tests.faults import fault
from tests.values.far import Far

# What cannot travel


@fault("too large", "a function or an argument of a gigabyte", promise="map says so, and what to do, before it begins")
def test_what_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialisation, "MAX_VALUE", 10_000)
    large = bytes(10_000)
    words = r"has 1\d,\d+ bytes when it is serialised; at most 10,000 can be stored: write the data to a file that"
    with pytest.raises(SerialisationError, match=rf"item 1 of args {words}"):
        list(serialise_arguments([(1,), (large,)]))
    with pytest.raises(SerialisationError, match=rf"the function .*lambda.*, with what it uses, {words}"):
        serialise_function(lambda: large)
    with pytest.raises(SerialisationError, match=rf"the function len, with what it uses and ns, {words}"):
        serialise_function(len, {"large": large})


@fault(26, "an argument that cannot be serialised", promise="an error that says which one")
def test_an_argument_that_cannot_travel_is_named() -> None:
    with pytest.raises(SerialisationError, match=r"item 1 of args, \(<unlocked .*>,\), cannot be serialised: .*lock"):
        list(serialise_arguments([(1,), (threading.Lock(),)]))


@pytest.mark.parametrize("item", [7, "text", None, {1, 2}, {1: 2}, b"bytes", len], ids=repr)
def test_an_item_of_another_type_is_refused(item: Any) -> None:
    arguments = serialise_arguments([(1,), [2], item])
    assert [next(arguments) for _ in range(2)]
    with pytest.raises(ArgumentsError, match=f"item 2 of args is .*, a {type(item).__name__}; .*write") as caught:
        next(arguments)
    assert isinstance(caught.value, TypeError)


def test_an_item_whose_repr_fails_is_refused_all_the_same() -> None:
    class Nameless:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(ArgumentsError, match="item 0 of args is <Nameless>"):
        list(serialise_arguments([Nameless()]))
    with pytest.raises(ArgumentsError, match=r"item 0 of args is 'x{70,80}\.\.\."):
        list(serialise_arguments(["x" * 10**6]))


# Arguments


@pytest.mark.parametrize("item", [(), (1,), (1, "two"), {"x": 1}, {}, ((),), ({"x": 1},)], ids=repr)
def test_items_come_back_as_they_were(item: Any) -> None:
    [data] = serialise_arguments([item])
    assert deserialise_arguments(data) == item


def test_a_list_is_as_good_as_a_tuple(far: Far) -> None:
    def f(*args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    items = [(1, 2), [1, 2], {"a": 1}, (), [], {}]
    assert far.map(f, items) == [[[1, 2], {}], [[1, 2], {}], [[], {"a": 1}], [[], {}], [[], {}], [[], {}]]


def test_arguments_are_drawn_one_by_one() -> None:
    drawn: list[int] = []

    def items() -> Iterator[tuple[int]]:
        for number in range(3):
            drawn.append(number)
            yield (number,)

    arguments = serialise_arguments(items())
    assert drawn == []
    next(arguments)
    assert drawn == [0]


class Local:
    """Of this module, which no worker can import."""

    limit = 1
    made = 0

    def __init_subclass__(cls) -> None:
        Local.made += 1

    class Inner:
        limit = 1


def by_value(data: bytes) -> bool:
    return b"_make_skeleton_class" in data


def test_nothing_stays_registered() -> None:
    from cloudpickle.cloudpickle import list_registry_pickle_by_value

    before = set(list_registry_pickle_by_value())
    serialise_function(by_value)
    with pytest.raises(ArgumentsError):
        list(serialise_arguments([7]))
    assert set(list_registry_pickle_by_value()) == before


# Loading


@fault(
    "second call",
    "a value is loaded whose class and function are here",
    promise="they are taken as they are; nothing of them changes, and no subclass is made",
)
def test_loading_takes_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import cloudpickle

    [data] = serialise_arguments([(Local(), Local.Inner(), by_value)])
    monkeypatch.setattr(Local, "limit", 2)
    for _ in ("by its number", "by its name"):
        value, inner, function = deserialise_arguments(data)
        assert (type(value), type(inner), function) == (Local, Local.Inner, by_value)
        assert (Local.limit, Local.made) == (2, 0)
        monkeypatch.setattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})


# Values


def test_plain_data_needs_no_cloudpickle(far: Far) -> None:
    value = {"a": [1, 2.5, None, True, b"\x93", ("x", {3})]}
    assert pickle.loads(client.dump(value)) == value
    program = f"""
import sys
sys.path.insert(0, {far.worker!r})
from _sheepdog_worker.wire.values import dump
dump({{"a": [1, 2.5, None, "x"]}})
assert "cloudpickle" not in sys.modules
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def test_a_numpy_array_comes_back() -> None:
    import numpy

    assert (deserialise(client.dump(numpy.arange(5))) == numpy.arange(5)).all()


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (by_value, "by_value"),
        (functools.partial(by_value, b""), "by_value"),
        (len, "len"),
        (Local, "Local"),
        (Local(), "Local"),
    ],
)
def test_a_telling_name(f: Any, name: str) -> None:
    assert name_of(f) == name
