"""The function that the tasks call: loaded, and given the names of its namespace."""

import functools
import io
import pickle
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def load_function(function: bytes, namespace: bytes) -> "Callable[..., Any]":
    """Return the callable from its two pickles, which share one memo."""
    unpickler = pickle.Unpickler(io.BytesIO(function + namespace))
    target = unpickler.load()  # type: Callable[..., Any]
    inject(target, unpickler.load() if namespace else {})
    return target


def inject(function: object, namespace: "dict[str, Any]") -> None:
    """Make the names of a namespace global to a function and to the functions in it.

    Functions that were pickled by value have globals of their own. A module that was really imported stays as it is,
    unless the function that is called in the end lives in it.
    """
    if not namespace:
        return
    called = list(functions_behind(function))
    targets = called[-1:]
    for candidate in called + [inner for value in namespace.values() for inner in functions_behind(value)]:
        module = sys.modules.get(candidate.__module__ or "")
        if module is None or vars(module) is not candidate.__globals__:
            targets.append(candidate)
    for target in targets:
        target.__globals__.update(namespace)


def functions_behind(value: "Any") -> "Iterator[types.FunctionType]":
    """Yield the functions that calling a value runs, one behind the other: partials, methods, decorators."""
    for _ in range(100):
        if isinstance(value, types.FunctionType):
            yield value
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, types.MethodType):
            value = value.__func__
        elif hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        elif isinstance(value, types.FunctionType):
            return
        elif isinstance(value, type):
            value = vars(value).get("__init__")
        elif isinstance(getattr(type(value), "__call__", None), types.FunctionType):
            value = type(value).__call__
        else:
            return
