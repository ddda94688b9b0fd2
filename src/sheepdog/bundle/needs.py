"""Needs: what a value takes to be loaded elsewhere. Seen while it is pickled, by a pickler that registers nothing.

cloudpickle pickles what it finds in a module by its name, unless the module is in a list of the whole process. This
pickler is told for each module, and leaves that list alone.
"""

from __future__ import annotations

import functools
import io
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from importlib import import_module
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, BinaryIO

from ..client.wire.loader import STANDS
from ..client.wire.values import PICKLE_PROTOCOL, marked, pickler_class, single_dispatch
from ..values.serialisation import names_in
from .code import Import, look_at
from .own import NEVER, Kind, Modules

CACHED = type(functools.lru_cache(len))
UNIQUE = (
    ContextVar,
    type(threading.Lock()),
    type(threading.RLock()),
    threading.local,
    threading.Event,
    threading.Condition,
    threading.Semaphore,
    threading.BoundedSemaphore,
)
"""Types of what is one for all who know it, and so cannot be copied."""

MAX_SECOND = 16 * 2**20  # bytes of all that stands for modules

SHORT_BINUNICODE = b"\x8c"  # in a pickle, before a text's length

LEFT = ("__builtins__", "__spec__", "__loader__", "__cached__")  # of a module that goes by value


@dataclass(slots=True)
class Needs:
    """The modules that a pickle names, what it names of each, and the codes in it.

    modules are those of the classes of its objects, too; named are those alone that are imported when it is loaded.
    by_value: something is not made by its name: the Python over there must be as this one.
    """

    modules: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    taken: dict[str, set[str]] = field(default_factory=dict)
    codes: dict[CodeType, str] = field(default_factory=dict)  # with the package of each
    by_value: bool = False

    def looked_up(self) -> list[tuple[str, str]]:
        """Return what is looked up over there: the names, each with its module."""
        places = sorted((module, name) for module, names in self.taken.items() for name in names)
        return [place for place in places if place[0].partition(".")[0] not in (*NEVER, "__main__")]

    def size(self) -> tuple[int, int, int]:
        """Return how much is needed: it only grows."""
        return len(self.modules) + len(self.named), sum(map(len, self.taken.values())), len(self.codes)

    def look_for_names(self, data: bytes) -> None:
        """Note which modules of the objects in a pickle it names: those of singletons, and of what numpy calls ufuncs.

        A name is there in full where it is first used.
        """
        for name in self.modules - self.named:
            encoded = name.encode()
            if len(encoded) < 256 and SHORT_BINUNICODE + bytes([len(encoded)]) + encoded in data:
                self.named.add(name)

    def imports(self) -> frozenset[tuple[Import, str]]:
        """Return what the codes import when they run, each with the package that it is relative to."""
        return frozenset((each, package) for code, package in self.codes.items() for each in _look(code).imports)

    def names(self) -> frozenset[str]:
        """Return the names that the codes use."""
        return frozenset().union(*(_look(code).names for code in self.codes))


def second_forms(
    names: Iterable[str], needs: Needs, used: Collection[str], theirs: dict[tuple[str, str], Needs] | None = None
) -> dict[str, dict[str, bytes]]:
    """Return what own modules define by value: by module and name, so far as it has one of the names that are used.

    It stands for modules that cannot be imported over there: what is looked up in one is loaded then. Each goes by
    itself, and names what is in other modules: theirs is given the needs of each. What cannot go by value is left out.
    """
    room = MAX_SECOND
    no_file = unshared()
    forms: dict[str, dict[str, bytes]] = {}
    for name in names:
        forms[name] = {}
        there = names_in(sys.modules[name])
        by_value = functools.cache(lambda other, name=name: other == name or no_file(other))
        for key in sorted(needs.taken.get(name, set()).union(used) & there.keys()):
            try:
                note = Needs()
                data = dumps(there[key], by_value, note)
            except Exception:  # noqa: S112
                continue
            if len(data) <= room:
                forms[name][key] = data
                if theirs is not None:
                    theirs[name, key] = note
                room -= len(data)
    return forms


_look = functools.lru_cache(1024)(look_at)  # an executor sends one function again and again


def dumps(value: Any, by_value: Callable[[str], bool], needs: Needs) -> bytes:
    """Return a value as bytes, and note what it needs. by_value tells of a module whether what is in it goes along."""
    buffer = io.BytesIO()
    pickler_of(buffer, by_value, needs).dump(value)
    data = buffer.getvalue()
    needs.look_for_names(data)
    return data


def unshared() -> Callable[[str], bool]:
    """Return what tells of modules that no file could make elsewhere: they go by value, all others by name."""
    modules = Modules()

    @functools.cache
    def is_made(name: str) -> bool:
        module = modules.find(name)
        if module is None or module.kind != Kind.NO_FILE or name == "__main__":  # which cloudpickle knows
            return False
        above = name.rpartition(".")[0]
        return not above or by_value(above)  # what a package makes when it is imported, it makes there, too

    def by_value(name: str) -> bool:
        if is_made(name):
            return True
        module = modules.find(name)
        return module is not None and name in sys.modules and module.is_gone  # which may be so at any time

    return by_value


def everything() -> Callable[[str], bool]:
    """Return what tells of all that is the user's own: the second form, for where a file cannot be imported."""
    modules = Modules()

    def by_value(name: str) -> bool:
        module = modules.find(name)
        return module is not None and name != "__main__" and (module.travels or module.kind == Kind.NO_FILE)

    return functools.cache(by_value)


def pickler_of(buffer: BinaryIO, by_value: Callable[[str], bool], needs: Needs) -> Any:
    """Return a pickler that asks of each module how what is in it travels, and notes what is needed."""
    return _pickler_class()(buffer, by_value, needs)


@functools.cache
def _pickler_class() -> Any:
    import cloudpickle.cloudpickle as cloudpickle

    class Pickler(pickler_class()):  # type: ignore[misc]
        def __init__(self, buffer: BinaryIO, by_value: Callable[[str], bool], needs: Needs) -> None:
            super().__init__(buffer, PICKLE_PROTOCOL)
            self.by_value = by_value
            self.needs = needs

        def travels(self, name: str) -> bool:
            return self.by_value(name) or super().travels(name)

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if isinstance(value, ModuleType):
                return self.reduce_module(value)
            if kind is FunctionType or kind is CACHED or isinstance(value, type):
                return self.reduce_named(value, kind)
            if kind is MethodType and self.is_named(value):
                return getattr, (value.__self__, value.__func__.__name__)
            if kind in UNIQUE and (place := self.place_of(value)):
                self.note(*place)
                return getattr, (sys.modules[place[0]], place[1])
            if kind is ContextVar:
                return variable, described(value)
            if kind is BuiltinFunctionType and value.__module__:
                self.needs.modules.add(value.__module__)
            if kind is CodeType:
                self.needs.by_value = True
            if isinstance(kind.__module__, str):  # anything can be set there
                self.needs.modules.add(kind.__module__)  # some are pickled as the name of a global, as singletons are
            return super().reducer_override(value)

        def note(self, module: str, name: str) -> None:
            if module.partition(".")[0] == "cloudpickle":
                self.needs.by_value = True
            self.needs.modules.add(module)
            self.needs.named.add(module)
            self.needs.taken.setdefault(module, set()).add(name)

        def place_of(self, value: Any) -> tuple[str, str] | None:
            """Return the own module that has this very object, and its name there; None if none has."""
            modules = Modules()
            for name in list(sys.modules):
                module = modules.find(name)
                if module is not None and module.travels and not self.by_value(name):
                    for key, each in list(names_in(sys.modules[name]).items()):
                        if each is value:
                            return name, key
            return None

        def is_named(self, method: MethodType) -> bool:
            """Tell whether a method is what a class that goes by name has under its name: it needs no cloudpickle."""
            owner = method.__self__ if isinstance(method.__self__, type) else type(method.__self__)
            if self.by_value(str(owner.__module__)) or not cloudpickle._should_pickle_by_reference(owner):
                return False
            found = getattr(owner, getattr(method.__func__, "__name__", ""), None)
            return found is method.__func__ or bool(found == method)

        def reduce_named(self, value: Any, kind: type) -> Any:
            if value is variable:
                return self._dynamic_function_reduce(value)
            reduced = super().reducer_override(value)
            if reduced is NotImplemented and self.by_value(str(getattr(value, "__module__", None))):
                reduced = self.dynamic(value, kind)
            if reduced is NotImplemented:
                name = cloudpickle._whichmodule(value, getattr(value, "__qualname__", None) or value.__name__)
                if name:
                    self.note(name, value.__qualname__.partition(".")[0])
            elif dispatched := single_dispatch(value):
                return dispatched
            elif kind is FunctionType:
                self.needs.codes[value.__code__] = value.__globals__.get("__package__") or ""
            return reduced

        def dynamic(self, value: Any, kind: type) -> Any:
            """Return how something is made that no module has over there; NotImplemented for what pickle knows."""
            if kind is FunctionType:
                if value in STANDS:
                    return NotImplemented
                return marked(value, self._dynamic_function_reduce(value))
            reduced = cloudpickle._dynamic_class_reduce(value)
            return marked(value, reduced) if len(reduced) == 6 else reduced

        def reduce_module(self, module: ModuleType) -> Any:
            """Return how a module is made: imported, or new, and filled when it is known to what is in it."""
            ours = super().reducer_override(module)
            if ours is not NotImplemented:
                return ours
            name = module.__name__
            if not self.by_value(name) and cloudpickle._should_pickle_by_reference(module):
                self.needs.modules.add(name)
                self.needs.named.add(name)
                return import_module, (name,)
            return ModuleType, (name,), {key: each for key, each in dict(vars(module)).items() if key not in LEFT}

    return Pickler


def described(var: ContextVar[Any]) -> tuple[str, list[Any], list[Any]]:
    """Return the name of a context variable, its default and its value, as lists: there may be none."""
    values = []
    for context in (Context(), copy_context()):
        try:
            values.append([context.run(lambda: var.get())])
        except LookupError:
            values.append([])
    return var.name, values[0], values[1]


def variable(name: str, default: list[Any], value: list[Any]) -> Any:
    """Return a context variable. It goes along by value: over there is nothing of ours."""
    from contextvars import ContextVar

    var = ContextVar(name, default=default[0]) if default else ContextVar(name)
    if value:
        var.set(value[0])
    return var
