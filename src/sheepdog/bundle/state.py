"""State: what was set in own modules since they were imported, so far as it is plain data.

The globals of modules, and the attributes of their classes, that functions refer to. What is not plain (a lock, a
connection, a table of functions, an object of a class) is what the file makes of it over there.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..values.serialisation import names_in
from .code import Look
from .facts import Fact, Why
from .own import Module
from .plain import MAX_STATE, TooLarge, dump, is_plain


@dataclass(frozen=True, slots=True)
class State:
    """What is to be set after imports: by module, the bytes of a dict, by name (Class.attribute among them)."""

    modules: Mapping[str, bytes]
    facts: tuple[Fact, ...]


def collect(own: Iterable[Module], looks: Mapping[str, Look], names: Collection[str], places: Collection[str]) -> State:
    """Return the state of those modules that have been imported, of what has one of these names.

    What its file sets to a constant, once, and still is that, is left out. places: see dump.
    """
    modules, facts = {}, []
    for module in own:
        there = sys.modules.get(module.name)
        if there is None:
            continue
        look = looks.get(module.name)
        constants = look.constants if look else {}
        found = {}
        left = _made_there(names_in(there), look.together if look else ())
        for name, value in _named(module.name, there, names):
            if name in left:
                continue
            if name in constants and _is_same(constants[name], value):
                continue
            try:
                if not is_plain(value):
                    if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
                        facts.append(Fact(Why.REPLACED, module.path, name))
                    continue
                size = len(dump(value, places))
            except TooLarge as error:
                facts.append(Fact(Why.STATE_TOO_LARGE, module.path, name, str(error)))
                continue
            except Exception:  # noqa: S112 (it changes in another thread, or is of a class that is no more)
                continue
            if size > MAX_STATE:
                more = f"it has {size:,} bytes, at most {MAX_STATE:,} travel so"
                facts.append(Fact(Why.STATE_TOO_LARGE, module.path, name, more))
                continue
            found[name] = value
        if found:
            modules[module.name] = dump(found, places)
    return State(modules, tuple(facts))


def _named(name: str, module: types.ModuleType, wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the values in a module, and in the classes that are defined in it, which have a name that is wanted."""
    for key, value in list(names_in(module).items()):
        if _is_of(value, name, key):
            yield from (
                (f"{key}.{inner}", each) for inner, each in list(vars(value).items()) if _is_free(inner, wanted)
            )
        elif _is_free(key, wanted):
            yield key, value


def _made_there(there: Mapping[str, Any], together: Iterable[frozenset[str]]) -> set[str]:
    """Return what a function sets together with something that is not plain, as `ready` with `model`.

    What is not plain will be made over there, by the same function, if the rest says that it is not there yet.
    """
    return {
        name for names in together if any(key in there and not _is_plain(there[key]) for key in names) for name in names
    }


def _is_plain(value: Any) -> bool:
    try:
        return is_plain(value)
    except TooLarge:
        return False


def _is_of(value: Any, name: str, key: str) -> bool:
    """Tell whether a value is a class of this module whose attributes may be set; those of enumerations may not."""
    if not isinstance(value, type) or issubclass(value, enum.Enum):
        return False
    return value.__module__ == name and value.__qualname__ == key


def _is_free(name: Any, wanted: Collection[str]) -> bool:
    return name in wanted and not (name.startswith("__") and name.endswith("__"))


def _is_same(constant: object, value: object) -> bool:
    if constant is value:
        return True
    return type(constant) is type(value) and repr(constant) == repr(value)
