"""State: what was set in own modules since they were imported, so far as it is plain data.

The globals of modules, and the attributes of their classes, that functions refer to. What is not plain (a lock, a
connection, a table of functions, an object of a class) is what the file makes of it over there.
"""

from __future__ import annotations

import enum
import pathlib
import pickle
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

from ..client.wire.values import PICKLE_PROTOCOL
from ..values.serialisation import names_in
from .changes import sights
from .code import Look, Together
from .facts import Fact, Why
from .own import TRAVELS, Module, Modules
from .plain import MAX_STATE, TooLarge, can_change, dump, is_container, is_plain


@dataclass(frozen=True, slots=True)
class State:
    """What is to be set after imports: by module, the bytes of a dict, by name (Class.attribute among them)."""

    modules: Mapping[str, bytes]
    facts: tuple[Fact, ...]


class Watch:
    """The state of own modules, which is asked for with every call of a request that stays open.

    What has one of these names is looked at, in modules that have been imported; what its file sets to a constant,
    once, and still is that, is left out. What cannot have changed since the last look is not made again.
    places: see dump; roots are those of them that are for sys.path.
    """

    def __init__(
        self,
        own: Iterable[Module],
        looks: Mapping[str, Look],
        names: Collection[str],
        places: Collection[str] = (),
        roots: Collection[str] = (),
    ) -> None:
        self.own = tuple(own)
        self.reached = {module.name for module in self.own}
        self.looks = looks
        self.names = names
        self.places = places
        self.roots = roots
        every = [each for look in looks.values() for each in look.together]
        self.set_here = {name for each in every for name in (*each.globals, *each.attributes)}  # by own functions
        self._seen: dict[str, _Seen] = {}
        self._state: State | None = None
        self.loaded = False
        """Whether a module was loaded between two looks, anew or for the first time: its file may be another."""

    def look(self) -> State:
        """Return the state as it is now: the very one of the last look if nothing was set."""
        changed = [each for each in self.own if not self._holds(each.name)]
        if changed or self._state is None:
            for module in changed:
                before, after = self._seen.get(module.name), self._look_at(module)
                self.loaded |= self._state is not None and (before is None or before.spec is not after.spec)
                self._seen[module.name] = after
            seen = self._seen.items()
            state = State(
                {name: each.data for name, each in seen if each.data},
                tuple(fact for _, each in seen for fact in each.facts),
            )
            if state != self._state:
                self._state = state
        assert self._state is not None
        return self._state

    def _holds(self, name: str) -> bool:
        seen = self._seen.get(name)
        there = sys.modules.get(name)
        return there is None if seen is None else seen.there is there and seen.holds()

    def _look_at(self, module: Module) -> _Seen:
        there = sys.modules.get(module.name)
        if there is None:
            return _Seen(None)
        look = sights.first(module.name, there) or self.looks.get(module.name)
        together = look.together if look else ()
        watched = list(_watched(module.name, there, self.names))
        guards = [(each, _guards(each, together)) for each in watched]
        left = {name for each, functions in guards for name in _told_of(each, functions)}
        loose = any(functions for _, functions in guards)
        found: dict[str, Any] = {}
        odd, large, facts = [], [], []
        for name, value in (item for each in watched for item in each.items()):
            if name in left or self._is_root(value) or (look and _is_of_its_file(name, value, look, there)):
                continue
            try:
                if not is_plain(value):
                    if is_container(value):
                        odd.append(value)
                    if self._stands_in(value):
                        facts.append(Fact(Why.REPLACED, module.path, name))
                    elif look and name in look.constants and not self._is_made_here(name):
                        facts.append(Fact(Why.NOT_PLAIN, module.path, name, type(value).__name__))
                    continue
                size = len(dump(value, self.places))
            except TooLarge as error:
                large.append((value, _length(value)))
                facts.append(Fact(Why.STATE_TOO_LARGE, module.path, name, str(error)))
                continue
            except Exception:  # it changes in another thread, or is of a class that is no more
                loose = True
                continue
            if size > MAX_STATE:
                large.append((value, _length(value)))
                more = f"it has {size:,} bytes, at most {MAX_STATE:,} travel so"
                facts.append(Fact(Why.STATE_TOO_LARGE, module.path, name, more))
                continue
            found[name] = value
        changing = [value for value in found.values() if can_change(value)]
        mark = _mark(changing)
        data = dump(found, self.places) if found else b""
        spec = names_in(there).get("__spec__")
        return _Seen(there, data, tuple(facts), watched, changing, mark, odd, large, loose, spec)

    def _stands_in(self, value: Any) -> bool:
        """Tell whether a function is none that a file of the bundle can have put there: a program or a test has."""
        mock = sys.modules.get("unittest.mock")
        if mock is not None and isinstance(value, mock.NonCallableMock):
            return True
        if not isinstance(value, types.FunctionType) or value.__module__ in self.reached:
            return False
        found = Modules().find(value.__module__)
        return value.__module__ == "__main__" or (found is not None and found.kind in TRAVELS)

    def _is_made_here(self, name: str) -> bool:
        """Tell whether own code may have set a name: a function, or what makes a class of its body."""
        return name in self.set_here or "." in name

    def _is_root(self, value: Any) -> bool:
        """Tell whether a value is a folder for sys.path: over there, its file says where that is."""
        return isinstance(value, (str, pathlib.PurePath)) and str(value).rstrip("/") in self.roots


class _Watched:
    """The values of a module, or of a class in it, which are looked at."""

    def __init__(self, where: Mapping[str, Any], before: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self.before = before
        self.keys = tuple(values)
        self.values = tuple(values.values())
        self.all = tuple(where)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Return the values, by name."""
        return ((self.before + key, value) for key, value in zip(self.keys, self.values, strict=True))

    def holds(self) -> bool:
        """Tell whether they are the very same objects."""
        where = self.where
        return tuple(where) == self.all and all(map(is_, map(where.get, self.keys), self.values))


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of a module: its state, and by what it is known that it is still that.

    changing are values that may change in place, and mark what they were; odd are containers that may become plain.
    large are values that are too large, with how many parts each has. loose: more must be looked at each time.
    """

    there: types.ModuleType | None
    data: bytes = b""
    facts: tuple[Fact, ...] = ()
    watched: Collection[_Watched] = ()
    changing: Collection[Any] = ()
    mark: bytes = b""
    odd: Collection[Any] = ()
    large: Collection[tuple[Any, int]] = ()
    loose: bool = False
    spec: object = None

    def holds(self) -> bool:
        """Tell whether nothing was set."""
        try:
            return not (
                self.loose
                or any(each.where.get("__spec__", self.spec) is not self.spec for each in self.watched)
                or not all(each.holds() for each in self.watched)
                or _mark(self.changing) != self.mark
                or any(map(is_plain, self.odd))
                or any(_length(value) != size for value, size in self.large)
            )
        except Exception:  # it changes in another thread, or is too large now
            return False


def _length(value: Any) -> int:
    """Return how many parts a value has, 0 if it does not say so."""
    return len(value) if hasattr(value, "__len__") else 0


def _mark(values: Collection[Any]) -> bytes:
    return pickle.dumps(values, PICKLE_PROTOCOL) if values else b""


def _watched(name: str, there: types.ModuleType, wanted: Collection[str]) -> Iterator[_Watched]:
    """Yield what is looked at of a module, and of the classes that are defined in it."""
    where = names_in(there)
    inside = dict(where)
    classes = {key: value for key, value in inside.items() if _is_of(value, name, key)}
    for key, each in classes.items():
        own = vars(each)
        yield _Watched(own, f"{key}.", {inner: value for inner, value in list(own.items()) if _is_free(inner, wanted)})
    yield _Watched(where, "", {key: each for key, each in inside.items() if key in classes or _is_free(key, wanted)})


def _guards(watched: _Watched, together: Iterable[Together]) -> list[Together]:
    """Return the functions that set what is true or false here."""
    told = [key for key, value in zip(watched.keys, watched.values, strict=True) if type(value) is bool]
    return [each for each in together if told and not _set_by(each, watched).isdisjoint(told)]


def _told_of(watched: _Watched, guards: Iterable[Together]) -> Iterator[str]:
    """Yield what tells that something was made: what is true or false, and a function sets with what is not plain.

    As `ready` with `model`. What is not plain will be made over there, by the same function, if it is not told that it
    is there. A function may also have put it into a container.
    """
    where = watched.where
    for each in guards:
        ones = [key for key in _set_by(each, watched) if key in where]
        made = any(_is_made(where[key]) for key in ones)
        if made or any(is_container(where[key]) and not _is_plain(where[key]) for key in each.used if key in where):
            yield from (watched.before + key for key in ones if type(where[key]) is bool)


def _set_by(function: Together, watched: _Watched) -> frozenset[str]:
    """Return what a function may set of a module, or of a class."""
    return function.attributes if watched.before else function.globals


def _is_made(value: Any) -> bool:
    """Tell whether something is no plain data, nor what stands in the file of a module or in a class."""
    return not (callable(value) or hasattr(value, "__get__") or _is_plain(value))


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


def _is_of_its_file(name: str, value: object, look: Look, there: types.ModuleType) -> bool:
    """Tell whether a value is what the file of its module, looked at so, has set the name to here."""
    if name in look.constants:
        return _is_same(look.constants[name], value)
    branches = look.branches.get(name)
    return branches is not None and any(_is_same(each, value) for each in branches.taken(names_in(there)))


def _is_same(constant: object, value: object) -> bool:
    if constant is value:
        return True
    return type(constant) is type(value) and repr(constant) == repr(value)
