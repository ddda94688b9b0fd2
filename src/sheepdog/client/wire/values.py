"""Values, and the Python that they are fit for: how they are made bytes at both ends."""

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

    A pickle without the opcode STACK_GLOBAL names no class or function: plain data, which needs no cloudpickle.
    """
    try:
        data = pickle.dumps(value, PICKLE_PROTOCOL)
        if b"\x93" not in data:
            return data
    except Exception:  # cloudpickle may know better, and words the error if not
        pass
    buffer = io.BytesIO()
    make_pickler(buffer).dump(value)
    return buffer.getvalue()


def make_pickler(buffer: "BinaryIO") -> "Any":
    """Return cloudpickle's pickler, taught what it does not know.

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
            return super().reducer_override(value)

    def travels(function: "Any") -> bool:
        module = sys.modules.get(function.__module__)
        own = cloudpickle.cloudpickle.list_registry_pickle_by_value()
        return module is None or function.__module__ == "__main__" or function.__module__ in own

    return Pickler(buffer, PICKLE_PROTOCOL)


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
