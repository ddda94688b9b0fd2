"""Plain data: what is set in a module as a value, not made by its file; and its bytes."""

from __future__ import annotations

import collections
import enum
import functools
import io
import operator
import pathlib
import pickle
import sys
from collections.abc import Collection, Iterable
from typing import Any

from ..client import OURS
from ..client.wire.values import PICKLE_PROTOCOL
from .needs import unshared

MAX_STATE = 16 * 2**20  # bytes of one value
MAX_PARTS = 1_000_000  # of one value

FLAT = {
    "builtins": ("NoneType", "bool", "bytearray", "bytes", "complex", "float", "int", "range", "slice", "str"),
    "array": ("array",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "pathlib": ("PosixPath", "PurePosixPath"),
}
LISTS = frozenset((list, tuple, set, frozenset, collections.deque))
TABLES = frozenset((dict, collections.OrderedDict, collections.Counter, collections.defaultdict))
NAMES = {"types": ("SimpleNamespace",), "argparse": ("Namespace",)}
PLACE = "place"


class TooLarge(Exception):
    """A value has more parts or bytes than may travel as the state of a module."""


def is_plain(value: Any) -> bool:
    """Tell whether a value is numbers, texts, times, paths, members of enumerations, or containers and arrays of such.

    Objects of the user's own classes are none. Raises TooLarge.
    """
    waiting = [iter((value,))]
    seen: set[int] = set()
    parts = 0
    while waiting:
        for each in waiting[-1]:
            parts += 1
            if parts > MAX_PARTS:
                raise TooLarge(f"it has more than {MAX_PARTS:,} parts")
            kind: Any = type(each)
            if _is_one_of(kind, "FLAT") or _is_number(each) or _is_member(each):
                continue
            inner = _parts(each)
            if inner is None:
                return False
            if id(each) not in seen:
                seen.add(id(each))
                waiting.append(iter(inner))
                break
        else:
            waiting.pop()
    return True


@functools.lru_cache(1000)
def _is_record(kind: Any) -> bool:
    """Tell whether a type is a named tuple that is found by its name."""
    if not (issubclass(kind, tuple) and hasattr(kind, "_fields")) or kind.__module__ == "__main__":
        return False
    try:
        return operator.attrgetter(kind.__qualname__)(sys.modules[kind.__module__]) is kind
    except (KeyError, AttributeError):
        return False


def is_container(value: Any) -> bool:
    """Tell whether a value is a container that is plain if all in it is."""
    kind: Any = type(value)
    return kind in LISTS or kind in TABLES or _is_one_of(kind, "NAMES") or _is_record(kind)


def can_change(value: Any) -> bool:
    """Tell whether a plain value can change in place, or what is in it can."""
    kind: Any = type(value)
    return not (_is_one_of(kind, "FLAT") or _is_member(value)) or kind.__name__ in ("array", "bytearray")


def _parts(value: Any) -> Iterable[Any] | None:
    """Return what is in a container; None if the value is no container of plain data."""
    kind: Any = type(value)
    if kind in LISTS or _is_record(kind):
        return list(value)
    if kind in TABLES:
        if kind is collections.defaultdict and not _is_a_factory(value.default_factory):
            return None
        return [part for item in list(value.items()) for part in item]
    return list(vars(value).values()) if _is_one_of(kind, "NAMES") else None


@functools.lru_cache(1000)
def _is_one_of(kind: Any, table: str) -> bool:
    """Tell whether a type is one of these of the standard library. Nothing is imported for that: it takes a while."""
    name = getattr(kind, "__qualname__", "")
    for module, names in (FLAT if table == "FLAT" else NAMES).items():
        if name in names:
            there = sys.modules.get(module)
            return kind is type(None) or (there is not None and getattr(there, name, None) is kind)
    return False


def _is_a_factory(value: Any) -> bool:
    return value is None or value in LISTS | TABLES or (isinstance(value, type) and _is_one_of(value, "FLAT"))


def _is_number(value: Any) -> bool:
    """Tell whether a value is numpy's, and of numbers or texts. numpy is not imported here."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return False
    return type(value).__module__ == "numpy" and not value.dtype.hasobject and not isinstance(value, numpy.memmap)


def _is_member(value: Any) -> bool:
    return isinstance(value, enum.Enum) and _goes_by_name(type(value))


@functools.lru_cache(1000)
def _goes_by_name(kind: type) -> bool:
    """Tell whether a class can be imported over there."""
    from cloudpickle import cloudpickle  # not everybody needs it

    if kind.__module__.partition(".")[0] in OURS or not cloudpickle._should_pickle_by_reference(kind):
        return False
    return not unshared()(kind.__module__)


class _Pickler(pickle.Pickler):
    """Marks the names of files that go along: they have other names over there."""

    def __init__(self, buffer: io.BytesIO, places: Collection[str]) -> None:
        super().__init__(buffer, PICKLE_PROTOCOL)
        self.places = places

    def persistent_id(self, value: Any) -> tuple[str, str, str] | None:
        if type(value) is str or isinstance(value, pathlib.PurePosixPath):
            text = str(value)
            if text[:1] == "/" and text.rstrip("/") in self.places:
                return PLACE, text[1:], "" if type(value) is str else type(value).__name__
        return None


def dump(value: Any, places: Collection[str] = ()) -> bytes:
    """Return the bytes of a plain value. A text or a path that is one of these places is marked."""
    buffer = io.BytesIO()
    _Pickler(buffer, places).dump(value)
    return buffer.getvalue()
