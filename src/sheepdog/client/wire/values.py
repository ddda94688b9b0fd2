"""Values, and the Python that they are fit for: how they are made bytes at both ends, and loaded."""

import functools
import importlib.util
import io
import pickle
import sys
import types

from ..job import other_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

PICKLE_PROTOCOL = 4  # 5 cannot be read by 3.6 and 3.7


def dump(value: object) -> bytes:
    """Pickle a value; by value what the other side could not import.

    A pickle without the opcode STACK_GLOBAL names no class or function: plain data, which needs no cloudpickle. Data
    may have the same byte.
    """
    try:
        data = pickle.dumps(value, PICKLE_PROTOCOL)
        if b"\x93" not in data or is_plain(value):
            return data
    except Exception:  # cloudpickle may know better, and words the error if not
        pass
    buffer = io.BytesIO()
    make_pickler(buffer).dump(value)
    return buffer.getvalue()


class Named(Exception):
    """A value names a class or a function."""


class Probe(pickle.Pickler):
    """Pickles plain data into nowhere, and stops at the first other thing."""

    def reducer_override(self, value: "Any") -> "Any":  # noqa: ARG002 (from 3.8 on, pickle calls it so)
        raise Named


class Nowhere(object):
    """A file that keeps nothing."""

    def write(self, data: "Any") -> None:
        """Take bytes."""


def is_plain(value: object) -> bool:
    """Tell whether a value that can be pickled names no class or function; an old Python cannot tell."""
    if sys.version_info < (3, 8):
        return False
    try:
        Probe(Nowhere(), PICKLE_PROTOCOL).dump(value)
    except Named:
        return False
    return True


def make_pickler(buffer: "BinaryIO") -> "Any":
    """Return cloudpickle's pickler, taught what it does not know."""
    return pickler_class()(buffer, PICKLE_PROTOCOL)


@functools.lru_cache(maxsize=None)
def pickler_class() -> "Any":
    """Return the class of the pickler; it is made when first needed, for cloudpickle takes its time.

    Cached functions and properties go by value where they must travel; what is Sheepdog's, as what the other end has.
    Code keeps the name of its file, for tracebacks: cloudpickle 3.1.3 writes the same name for all code.
    """
    import cloudpickle

    cached_function = type(functools.lru_cache()(len))
    cached_property = getattr(functools, "cached_property", None)  # 3.8

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: "Any") -> "Any":
            if type(value) is cached_function and travels(value):
                parameters = value.cache_parameters()
                make = (value.__wrapped__, parameters["maxsize"], parameters["typed"], functools._CacheInfo)
                return cached_function, make, vars(value)
            if type(value) is cached_property and hasattr(value, "lock"):  # until 3.11
                return cached_property, (value.func,), {"attrname": value.attrname}
            if type(value) is types.CodeType:
                make, parts = self.dispatch_table[types.CodeType](value)
                return make, with_file(parts, value.co_filename)
            ours = other_end(value)
            if ours is not None:
                return ours
            reduced = super().reducer_override(value)
            if isinstance(value, type) and isinstance(reduced, tuple) and reduced[0].__name__ == MAKE_CLASS:
                return completed(reduced, value)
            return reduced

    def travels(function: "Any") -> bool:
        module = sys.modules.get(function.__module__)
        own = cloudpickle.cloudpickle.list_registry_pickle_by_value()
        return module is None or function.__module__ == "__main__" or function.__module__ in own

    return Pickler


def load(data: bytes) -> "Any":
    """Return a value. What is here already stays as it is: classes, and functions of modules, are taken, not made."""
    if b"\x93" not in data:  # it names no class or function, see dump
        return pickle.loads(data)
    return Loader(io.BytesIO(data)).load()


class Loader(pickle.Unpickler):
    """Loads what cloudpickle made; but of a class or a function that is here, it makes no copy, and sets nothing.

    cloudpickle itself takes a class that it knows, and then puts the class's attributes and methods back to what they
    were where the value comes from; the methods see a copy of the globals there.
    """

    def __init__(self, file: "BinaryIO") -> None:
        super(Loader, self).__init__(file)
        self.here = {}  # type: dict[int, object]  # by their id()

    def find_class(self, module: str, name: str) -> "Any":
        """Return what a pickle names; of cloudpickle's makers, ours in their place."""
        found = super(Loader, self).find_class(module, name)
        if module != MODULE or name not in MAKERS:
            return found
        return functools.partial(getattr(self, MAKERS[name]), found)

    def make_class(self, make: "Any", *args: "Any") -> "Any":
        """Return the class that is here: known by its number, or of its module's name; else a new one."""
        _, _, _, attributes, number, name = args
        known = by_number(number)
        if known is None and name is not None:
            named = named_here(attributes.get("__module__"), name)
            known = named if isinstance(named, type) else None
        return self.take(known) if known is not None else make(*args[:-1], None)

    def make_enum(self, make: "Any", *args: "Any") -> "Any":
        """Return the enumeration that is here, if it has all of these members; else a new one."""
        _, _, name, members, module, number, _ = args
        known = by_number(number)
        if known is None:
            named = named_here(module, name)
            there = isinstance(named, type) and set(members) <= set(getattr(named, "__members__", ()))
            known = named if there else None
        return self.take(known) if known is not None else make(*args)

    def make_function(self, make: "Any", code: types.CodeType, names: "dict[str, Any]", *args: "Any") -> "Any":
        """Return the function that is here, if it is of this very code; else a new one."""
        known = named_here(names.get("__name__"), getattr(code, "co_qualname", ""))  # 3.11
        if type(known) is types.FunctionType and known.__code__ == code and known.__closure__ is None:
            return self.take(known)
        return make(code, names, *args)

    def take(self, known: "Any") -> "Any":
        """Return what is here, which is not to be changed."""
        self.here[id(known)] = known
        return known

    def set_state(self, set_state: "Any", value: "Any", state: "Any") -> "Any":
        """Give what has been made here its attributes."""
        return value if id(value) in self.here else set_state(value, state)


MODULE = "cloudpickle.cloudpickle"
MAKE_CLASS = "_make_skeleton_class"
MAKERS = {
    MAKE_CLASS: "make_class",
    "_make_skeleton_enum": "make_enum",
    "_make_function": "make_function",
    "_class_setstate": "set_state",
    "_function_setstate": "set_state",
}


def by_number(number: "str | None") -> "Any":
    """Return the class that cloudpickle has given this number, or got with it; None if there is none."""
    return sys.modules[MODULE]._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)


def named_here(module: "str | None", name: str) -> "Any":
    """Return what a module that has been imported calls so; None if there is nothing."""
    found = sys.modules.get(module or "")  # type: Any
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def completed(reduced: "tuple[Any, ...]", cls: type) -> "tuple[Any, ...]":
    """Return how a class is made, with what cloudpickle 3.1.3 leaves out: its qualified name, and its slots.

    The name to find it by is among the arguments, in a place that cloudpickle does not use; the one to keep is among
    the attributes. A class that is made without its slots has objects whose state fits no other.
    """
    make, args, (attributes, slots) = reduced[:3]
    attributes = {name: each for name, each in attributes.items() if type(each) is not types.MemberDescriptorType}
    attributes["__qualname__"] = cls.__qualname__
    if attributes.get("__slots__"):
        args = args[:3] + (dict(args[3], __slots__=attributes.pop("__slots__")),) + args[4:]
    return (make, args[:-1] + (cls.__qualname__,), (attributes, slots)) + reduced[3:]


def with_file(parts: "tuple[Any, ...]", file: str) -> "tuple[Any, ...]":
    """Return what a code object is made of with this name of its file, which is the first text in every Python."""
    place = next(place for place, part in enumerate(parts) if isinstance(part, str))
    return parts[:place] + (file,) + parts[place + 1 :]


def describe_python() -> "dict[str, str]":
    """Return what decides whether bytecode can be exchanged."""
    return {
        "implementation": sys.implementation.name,
        "version": "%d.%d.%d" % sys.version_info[:3],
        "magic": importlib.util.MAGIC_NUMBER.hex(),
        "executable": sys.executable,
    }
