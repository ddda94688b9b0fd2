"""Blame: which part of a value cannot travel, by the way to it: f -> config -> LOCK, a _thread.lock, in helpers.py."""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_STEPS = 40  # from the value to the part
MAX_ASKED = 2000  # parts that are tried

Try = Callable[[Any], Exception | None]


def trail(value: Any, name: str, attempt: Try) -> str:
    """Return the way to what cannot travel in a value, and what it is. attempt returns why a part cannot, or None.

    Where no part can be found that is at fault, the value itself is named.
    """
    names, place = [name], ""
    asked = 0
    above: set[int] = set()
    for _ in range(MAX_STEPS):
        above.add(id(value))
        for step, part, where in parts_of(value):
            if id(part) in above:
                continue
            asked += 1
            if asked > MAX_ASKED:
                break
            if attempt(part) is not None:
                names.append(step)
                value, place = part, where or place
                break
        else:
            break
        if asked > MAX_ASKED:
            break
    return f"{' -> '.join(names)}, {_kind(value)}{f', in {os.path.basename(place)}' if place else ''}"


def _kind(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def parts_of(value: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield what travels with a value when it goes by value: how each is got at, the part, the file it is named in."""
    if isinstance(value, types.MethodType):
        yield "its object", value.__self__, ""
        value = value.__func__
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.ModuleType):
        file = str(vars(value).get("__file__") or "")
        for name, each in list(vars(value).items()):
            if not name.startswith("__"):
                yield name, each, file
    elif isinstance(value, type):
        for name, each in list(vars(value).items()):
            yield f".{name}", getattr(each, "__func__", each), ""
        for base in value.__bases__:
            yield f"its base {base.__name__}", base, ""
    elif isinstance(value, Mapping):
        for key, each in list(value.items()):
            yield f"[{key!r}]"[:80], each, ""
            yield f"the key {key!r}"[:80], key, ""
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, each in enumerate(value):
            yield f"[{index}]", each, ""
    else:
        yield from _of_object(value)


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any, str]]:
    file = function.__code__.co_filename
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents, file
        except ValueError:  # not set yet
            continue
    waiting = [function.__code__]
    for code in waiting:
        waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        for name in code.co_names:
            if name in function.__globals__:
                yield name, function.__globals__[name], file
    defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    for which, each in defaults.items():
        yield f"the default {which}", each, file
    for name, each in vars(function).items():
        yield f".{name}", each, file


def _of_object(value: Any) -> Iterator[tuple[str, Any, str]]:
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:
        return
    if isinstance(reduced, str):
        return
    yield "its class", type(value), ""
    for name, each in (getattr(value, "__dict__", None) or {}).items():
        yield f".{name}", each, ""
    for part in reduced[1:]:
        if isinstance(part, tuple):
            for index, each in enumerate(part):
                if isinstance(each, dict):
                    yield from ((f".{name}", inner, "") for name, inner in each.items())
                else:
                    yield f"part {index} of it", each, ""
