"""The loader: makes of a pickle what is not here yet. What is here it takes, and changes nothing of it."""

import pickle
import types

from .names import find_name
from .origins import ORIGINS, content_of, find, is_lasting, remember
from .pythons import CAN_HAVE_CLOUDPICKLE, code, no_cloudpickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO


def make(*_: object) -> None:
    """Stand, in a pickle, for Loader.make."""


def make_code(*_: object) -> None:
    """Stand, in a pickle, for Loader.make_code."""


def set_state(*_: object) -> None:
    """Stand, in a pickle, for Loader.set_state."""


def register_all(*_: object) -> None:
    """Stand, in a pickle, for Loader.register_all."""


CLOUDPICKLE = ("cloudpickle", "cloudpickle.cloudpickle")
STANDS = (make, make_code, set_state, register_all)
THIS = ("sheepdog.client.wire.loader", "_sheepdog_worker.wire.loader")  # what this module is called, at either end


class World(object):
    """What a worker has of the other end's classes, functions and modules, for one function that it was sent."""

    def __init__(self) -> None:
        self.known = {}  # type: dict[Any, Any]  # by where they are from
        self.modules = {}  # type: dict[str, types.ModuleType]  # whose names are the globals of their functions
        self.given = {}  # type: dict[str, set[str]]  # by module: the names that are from ns, which win
        self.received = {}  # type: dict[Any, dict[str, Any]]  # what came last: by module or class, and by name

    def module(self, name: str) -> types.ModuleType:
        """Return the one module of this name; it may be empty as yet."""
        if name not in self.modules:
            self.modules[name] = types.ModuleType(name)
        return self.modules[name]

    def give(self, namespace: "dict[str, Any]") -> None:
        """Note where the names of ns have been put: there they stay."""
        for name, module in self.modules.items():
            if all(vars(module).get(key, self) is value for key, value in namespace.items()):
                self.given[name] = set(namespace)

    def owns(self, function: types.FunctionType) -> bool:
        """Tell whether a function's globals are a module's."""
        module = self.modules.get(function.__globals__.get("__name__", ""))
        return module is not None and vars(module) is function.__globals__

    def news(
        self, owner: object, names: "dict[str, Any]", told: "set[str] | None" = None
    ) -> "tuple[dict[str, Any], set[str]]":
        """Return what is not as it came last, and the names of what came before and is gone there by now.

        The rest stays as the tasks have made it. told are the names that would have come if they were there; None: all.
        """
        received = self.received.setdefault(owner, {})
        gone = {name for name in received if name not in names and (told is None or name in told)}
        for name in gone:
            del received[name]
        found = {}
        for name, value in names.items():
            content = content_of(value)
            if content is None or received.get(name) != content:
                received[name] = content
                found[name] = value
        return found, gone


class Loader(pickle.Unpickler):
    """Loads pickles in which classes, functions and modules say where they are from (see values.marked).

    At home, which is without a world, what is here is taken as it is, and nothing of it is set: what this process has
    sent or got before, and what has the same name and is the same. The rest is made anew.

    On a worker, what its world has is taken. Of that only what is not as it came last is set: the other end has changed
    it since.
    """

    def __init__(self, file: "BinaryIO", world: "World | None" = None) -> None:
        super(Loader, self).__init__(file)
        self.world = world
        self.taken = {}  # type: dict[int, object]  # by their id()

    def find_class(self, module: str, name: str) -> "Any":
        """Return what a pickle names."""
        if module in THIS:
            return getattr(self, name)
        if module in CLOUDPICKLE and not CAN_HAVE_CLOUDPICKLE:
            return no_cloudpickle
        return find_name(super(Loader, self).find_class, module, name)

    make_code = staticmethod(code)

    def make(self, origin: "Any", module: "str | None", maker: "Any", args: "tuple[Any, ...]") -> "Any":
        """Return a class, a function or a module: the one that is here, or else a new one without its state."""
        known = find(origin) if self.world is None else self.world.known.get(origin)
        if known is not None:
            self.taken[id(known)] = known
            return known
        if self.world is not None and maker is types.ModuleType:
            made = self.world.module(*args)
        elif self.world is not None and module is not None:
            names = vars(self.world.module(module))
            names.update(args[1])
            made = maker(args[0], names, *args[2:])
        else:
            made = maker(*args)
        if origin is not None:
            remember(made, origin)
            if self.world is not None and is_lasting(origin):
                self.world.known[origin] = made
        return made

    def set_state(self, value: "Any", how: "tuple[Any, Any]") -> None:
        """Give what was made its state; to what was taken, on a worker, what is new of it."""
        setter, state = how
        world, taken = self.world, id(value) in self.taken
        if world is not None and isinstance(value, type):
            news, gone = world.news(ORIGINS[value], state[0])
            state, taken = (news,) + state[1:], False
            for name in gone & vars(value).keys():
                delattr(value, name)
        elif world is not None and isinstance(value, types.ModuleType):
            state, gone = world.news(value.__name__, state)
            drop(vars(value), gone)
            taken = False
        elif world is not None and isinstance(value, types.FunctionType) and world.owns(value):
            module = value.__globals__["__name__"]
            news, gone = world.news(module, state[1]["__globals__"], names_in(value.__code__))
            given = world.given.get(module, set())
            drop(value.__globals__, gone - given)
            value.__globals__.update({name: each for name, each in news.items() if name not in given})
            state[1]["__globals__"] = {}
        if taken:
            return
        if setter is not None:
            setter(value, state)
        else:
            vars(value).update(state)

    def register_all(self, function: "Any", others: "dict[type, Any]") -> None:
        """Register what a function of single dispatch has for classes besides object."""
        for cls, each in others.items():
            function.register(cls, each)


def drop(names: "dict[str, Any]", gone: "set[str]") -> None:
    """Take names out of a module."""
    for name in gone:
        names.pop(name, None)


def names_in(code: types.CodeType) -> "set[str]":
    """Return the names that code may look for in its module, with the code inside."""
    found = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            found |= names_in(each)
    return found
