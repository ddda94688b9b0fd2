"""Values: how they are made bytes at both ends, and loaded."""

import functools
import io
import pickle
import sys
import types

from ..job import other_end
from .loader import STANDS, Loader, World, make, make_code, register_all, set_state
from .origins import CACHED, names_of, origin_of, remember
from .pythons import CAN_DUMP_VALUES, HERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

PICKLE_PROTOCOL = 4  # 5 cannot be read by 3.6 and 3.7


def dump(value: object) -> bytes:
    """Pickle a value; by value what the other side could not import, unless this Python is too old for that."""
    data = dump_plain(value)
    if data is None and not CAN_DUMP_VALUES:
        data = pickle.dumps(value, PICKLE_PROTOCOL)
    if data is None:
        buffer = io.BytesIO()
        make_pickler(buffer).dump(value)
        data = buffer.getvalue()
    return data


def dump_plain(value: object) -> "bytes | None":
    """Pickle plain data, which needs no cloudpickle; return None for other values.

    A pickle without the opcode STACK_GLOBAL names no class or function. Data may have the same byte.
    """
    try:
        data = pickle.dumps(value, PICKLE_PROTOCOL)
        return data if b"\x93" not in data or is_plain(value) else None
    except Exception:  # cloudpickle may know better, and words the error if not
        return None


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

    Cached functions, those of single dispatch, modules and properties go by value where they must travel; what is
    Sheepdog's, as what the other end has. What goes by value says where it is from. Code keeps the name of its file,
    for tracebacks: cloudpickle 3.1.3 writes the same name for all code.
    """
    import cloudpickle

    cached_property = getattr(functools, "cached_property", None)  # 3.8
    dispatching = getattr(functools, "singledispatchmethod", None)  # 3.8

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: "Any") -> "Any":
            if type(value) is cached_property and hasattr(value, "lock"):  # until 3.11
                return cached_property, (value.func,), {"attrname": value.attrname}
            if type(value) is dispatching and hasattr(value, "_method_cache"):  # from 3.13 on
                return dispatching, (value.func,), {"dispatcher": value.dispatcher}
            if type(value) is types.CodeType:
                _, parts = self.dispatch_table[types.CodeType](value)
                return make_code, (HERE,) + with_file(parts, value.co_filename)
            ours = other_end(value)
            if ours is not None:
                return ours
            if type(value) is types.FunctionType and value in STANDS:
                return NotImplemented
            if type(value) is CACHED and self.travels(value.__module__):
                parameters = value.cache_parameters()
                parts = (value.__wrapped__, parameters["maxsize"], parameters["typed"], functools._CacheInfo)
                return marked(value, (CACHED, parts, vars(value)))
            if type(value) is types.ModuleType and value.__name__ != "__main__" and self.travels(value.__name__):
                names = dict(vars(value))  # at once: another thread may import something into it
                for name in ("__builtins__", "__spec__", "__loader__", "__cached__"):
                    names.pop(name, None)
                return marked(value, (types.ModuleType, (value.__name__,), names))
            reduced = super().reducer_override(value)
            if not isinstance(reduced, tuple) or len(reduced) != 6:
                return reduced
            return single_dispatch(value) or marked(value, reduced)

        def travels(self, name: str) -> bool:
            """Tell whether what is in a module goes by value."""
            registered = cloudpickle.list_registry_pickle_by_value()
            return name == "__main__" or name not in sys.modules or name in registered

    return Pickler


def single_dispatch(value: "Any") -> "tuple[Any, ...] | None":
    """Return how a function of single dispatch is made: of those that it has for classes; None for other values."""
    if type(value) is not types.FunctionType or not {"registry", "dispatch"} <= set(vars(value)):
        return None
    (_, first), *others = vars(value)["registry"].items()
    return functools.singledispatch, (first,), dict(others), None, None, register_all


def marked(value: "Any", reduced: "tuple[Any, ...]") -> "tuple[Any, ...]":
    """Return how to make what goes by value, with where it is from: see Loader, which makes it.

    Of a class, cloudpickle 3.1.3 leaves out the qualified name, and the slots: a class that is made without these has
    objects whose state fits no other.
    """
    maker, args, state = reduced[:3]
    origin, module = origin_of(value), None
    if isinstance(value, type):
        origin = origin or args[-2]  # cloudpickle's number
        args = args[:-2] + (None, None)
        names = {name: each for name, each in state[0].items() if type(each) is not types.MemberDescriptorType}
        names["__qualname__"] = value.__qualname__
        if names.get("__slots__"):
            args = args[:3] + (dict(args[3], __slots__=names.pop("__slots__")),) + args[4:]
        state = (names,) + state[1:]
        remember(value, origin)
    elif type(value) is types.FunctionType:
        name = value.__globals__.get("__name__")
        module = name if names_of(name) is value.__globals__ else None
    setter = reduced[5] if len(reduced) == 6 else None
    return make, (origin, module, maker, args), (setter, state), None, None, set_state


def load(data: bytes, world: "World | None" = None) -> "Any":
    """Return a value: on a worker, for the world that it belongs to. Nothing of what is here changes; see Loader."""
    if b"\x93" not in data:  # it names no class or function, see dump
        return pickle.loads(data)
    return Loader(io.BytesIO(data), world).load()


def with_file(parts: "tuple[Any, ...]", file: str) -> "tuple[Any, ...]":
    """Return what a code object is made of with this name of its file, which is the first text in every Python."""
    place = next(place for place, part in enumerate(parts) if isinstance(part, str))
    return parts[:place] + (file,) + parts[place + 1 :]
