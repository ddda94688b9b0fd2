"""State: what own modules were set to on the user's machine, and how they come to be so here.

A module is set when all imports have ended that are under way, as it was there: what is made of it while others are
imported is made of what its file says. What its file makes equal is left as it is, and a container stays the one that
others know, with other things in it.
"""

import copy
import io
import pickle
import sys
import types

from .wire.names import find_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType
    from typing import Any


ARRAY, DEQUE, NAMESPACE, NDARRAY = (
    ("array", "array"),
    ("collections", "deque"),
    ("argparse", "Namespace"),
    ("numpy", "ndarray"),
)
FACTS = ("default_factory", "maxlen", "typecode")  # of containers, which stay as they are


class State(object):
    """The state of own modules. place is where the user's files lie here."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.values = {}  # type: dict[str, bytes]  # by module
        self.there = {}  # type: dict[str, bytes]  # by module: those that it has been set to
        self.made = {}  # type: dict[str, dict[str, Any]]  # by module: what its file has made of what was set
        self.faults = []  # type: list[str]  # of what could not be set, what nobody has been told

    def take(self, values: "Mapping[str, bytes]") -> None:
        """Set those modules that are imported. What is not set any more is again what it was."""
        before, self.values = self.values, dict(values)
        names = [name for name in set(before) | set(self.values) if before.get(name) != self.values.get(name)]
        self.set([sys.modules[name] for name in names if name in sys.modules])

    def set(self, modules: "Sequence[ModuleType]", anew: bool = False) -> None:
        """Set the globals of modules, and attributes of their classes.

        anew: they have just been imported. Else what is not said to be another than before stays as tasks have made it.
        """
        merger = Merger()
        for module in modules:
            self._set(module, anew, merger)

    def _set(self, module: "ModuleType", anew: bool, merger: "Merger") -> None:
        name = module.__name__
        if anew:
            self.there.pop(name, None)
            self.made.pop(name, None)
        before, values = self._load(self.there.get(name)), self._load(self.values.get(name))
        made = self.made.setdefault(name, {})
        for key in sorted(set(values) | (set(before) & set(made))):  # the rest was not there, and so was not set
            if key in values and key in before and alike(before[key], values[key]):
                continue
            try:
                self._set_one(module, key, values[key] if key in values else remembered(made[key]), made, merger)
            except ImportError:  # the class is not there, and nothing stands for it
                continue
            except Exception as error:
                self.faults.append("%s of %s cannot be set there: %s" % (key, name, " ".join(str(error).split())))
        self.there[name] = self.values.get(name, b"")

    def _set_one(self, module: "ModuleType", key: str, value: "Any", made: "dict[str, Any]", merger: "Merger") -> None:
        owner, _, last = key.rpartition(".")
        target = getattr(module, owner, None) if owner else module
        if target is None:
            return
        there = vars(target).get(last)
        if key not in made:
            made[key] = remembered(there)
        result = merger.merge(there, value)
        if result is not there or last not in vars(target):
            setattr(target, last, result)

    def _load(self, data: "bytes | None") -> "dict[str, Any]":
        return Loader(data, self.place).load() if data else {}


class Loader(pickle.Unpickler):
    """Loads plain data in which files are named by where they lie here."""

    def __init__(self, data: bytes, place: str) -> None:
        super(Loader, self).__init__(io.BytesIO(data))
        self.place = place

    def find_class(self, module: str, name: str) -> "Any":
        """Return what a pickle names."""
        return find_name(super(Loader, self).find_class, module, name)

    def persistent_load(self, name: "tuple[str, str, str]") -> "Any":
        """Return a text or a path that begins with one of the user's files."""
        _, text, kind = name
        path = "%s/%s" % (self.place, text)
        if not kind:
            return path
        import pathlib  # slow to import

        return getattr(pathlib, kind)(path)


def alike(one: "Any", other: "Any") -> bool:
    """Tell whether two plain values are the same, all that is in them too."""
    if one is other:
        return True
    if type(one) is not type(other) or any(getattr(one, fact, None) != getattr(other, fact, None) for fact in FACTS):
        return False
    try:
        if isinstance(one, dict):
            return [*one] == [*other] and all(alike(one[key], other[key]) for key in one)
        if isinstance(one, (list, tuple)) or kind(one) == DEQUE:
            return len(one) == len(other) and all(map(alike, one, other))
        if isinstance(one, types.SimpleNamespace) or kind(one) == NAMESPACE:
            return alike(vars(one), vars(other))
        if kind(one)[0] == "numpy":
            return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
        return bool(one == other) and (not isinstance(one, (float, complex)) or repr(one) == repr(other))
    except Exception:
        return False


def remembered(value: "Any") -> "Any":
    """Return a copy of a value, so far as it can be copied."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


class Merger(object):
    """Makes what is here as what came: containers and arrays that are here stay themselves, with other things in them.

    So whoever knows one sees it. One that two names have here, and that came as two, is two from then on.
    """

    def __init__(self) -> None:
        self.results = {}  # type: dict[int, Any]  # by the id of what came, which is kept beside it
        self.taken = {}  # type: dict[int, Any]  # what is here and has been filled

    def merge(self, old: "Any", new: "Any") -> "Any":
        """Return what is as the new value: the old one, if it can be that, or is so already."""
        if old is new:
            return old
        if id(new) in self.results:
            return self.results[id(new)][0]
        result = new
        if type(old) is not type(new):
            pass
        elif isinstance(new, tuple):
            result = self._tuple(old, new)
        elif id(old) in self.taken or not can_be_filled(old, new):
            result = old if alike(old, new) else new
        else:
            result = self.taken[id(old)] = old
            self.results[id(new)] = old, new  # it may be in itself
            self._fill(old, new)
        self.results[id(new)] = result, new
        return result

    def _tuple(self, old: "Any", new: "Any") -> "Any":
        if len(old) != len(new):
            return new
        parts = [*map(self.merge, old, new)]
        if [*map(id, parts)] == [*map(id, old)]:
            return old
        if [*map(id, parts)] == [*map(id, new)]:
            return new
        return type(new)(*parts) if hasattr(new, "_fields") else tuple(parts)

    def _fill(self, old: "Any", new: "Any") -> None:
        if isinstance(new, dict):
            items = [(key, self.merge(old[key], value) if key in old else value) for key, value in new.items()]
            if [(key, id(value)) for key, value in old.items()] != [(key, id(value)) for key, value in items]:
                old.clear()
                for key, value in items:  # a Counter's update counts
                    old[key] = value
        elif isinstance(new, list) or kind(new) == DEQUE:
            parts = [*map(self.merge, old, new)] + list(new)[len(old) :]
            if [*map(id, old)] != [*map(id, parts)]:
                old.clear()
                old.extend(parts)
        elif isinstance(new, types.SimpleNamespace) or kind(new) == NAMESPACE:
            self._fill(vars(old), vars(new))
        elif alike(old, new):
            pass
        elif isinstance(new, set):
            old.clear()
            old.update(new)
        elif kind(new) == NDARRAY:
            old[...] = new
        else:
            old[:] = new


def kind(value: "Any") -> "tuple[str, str]":
    """Return the names of a value's type and of its module. Nothing is imported for that."""
    return type(value).__module__, type(value).__name__


def can_be_filled(old: "Any", new: "Any") -> bool:
    """Tell whether a value can be made as another of its type, and stay itself."""
    if kind(new) == NDARRAY:
        writes = old.flags.writeable and new.flags.writeable
        return bool(writes and old.dtype == new.dtype and old.shape == new.shape)
    if any(getattr(old, fact, None) != getattr(new, fact, None) for fact in FACTS):
        return False
    kinds = (dict, list, set, bytearray, types.SimpleNamespace)
    return isinstance(new, kinds) or kind(new) in (ARRAY, DEQUE, NAMESPACE)
