"""Which Python this is, and the code that another one has made: it is never run here."""

import importlib.util
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAN_HAVE_CLOUDPICKLE = sys.version_info >= (3, 8)
CAN_DUMP_VALUES = CAN_HAVE_CLOUDPICKLE and sys.implementation.name == "cpython"  # another has another pickler


class OtherPython(RuntimeError):
    """What goes by value was made by another Python."""


def describe_python() -> "dict[str, str]":
    """Return what decides whether bytecode can be exchanged."""
    return {
        "implementation": sys.implementation.name,
        "version": "%d.%d.%d" % sys.version_info[:3],
        "magic": importlib.util.MAGIC_NUMBER.hex(),
        "executable": sys.executable,
    }


HERE = sys.implementation.name, "%d.%d.%d" % sys.version_info[:3], importlib.util.MAGIC_NUMBER.hex()
"""What is said of the Python that made a code: the implementation, its version, and the magic number of its bytecode.

Versions tell nothing of the arguments of types.CodeType: in 3.11, 3.12 and 3.13 they are the same, the bytecode is not.
"""


def code(made_by: "tuple[str, str, str]", *parts: "Any") -> types.CodeType:
    """Return a code. Raises OtherPython, with what to do, if this Python is another than the one that made it."""
    implementation, version, magic = made_by
    if (implementation, magic) != (HERE[0], HERE[2]):
        raise OtherPython(
            "it goes by value, as code that %s %s has made, which %s %s (%s) cannot run: let it be Python %s at both "
            "ends (the option `python`), or put it into a module of your own, whose functions and classes go by name"
            % (implementation, version, HERE[0], HERE[1], sys.executable, ".".join(version.split(".")[:2]))
        )
    return types.CodeType(*parts)


def no_cloudpickle(*_: object) -> None:
    """Stand for what is cloudpickle's, which does not run on an old Python. Code comes first, and says more."""
    raise OtherPython(
        "it goes by value, which takes Python 3.8 or newer; this is Python %s (%s): put it into a module of your own, "
        "whose functions and classes go by name" % (HERE[1], sys.executable)
    )
