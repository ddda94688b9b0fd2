"""The function that the tasks call: loaded, and given the names of its namespace."""

import functools
import io
import operator
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterator
    from typing import Any

    from .wire.loader import World

PICKLE = "cloudpickle"  # the form of a function of which nobody says more
BY_NAME = "by name"  # a pickle in which all is plain data, or has a name over there: any Python loads it
CONTROLLER = "controller"  # the name of the parameter by which a function asks for one


class Nothing(object):
    """A context of nothing, which contextlib has from 3.7 on."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def load_function(
    form: str, function: bytes, namespace: bytes, world: "World", imports: "Any" = None
) -> "Callable[..., Any]":
    """Return the callable, given the names of its namespace, from the form that it came in, for a world of its own.

    imports is a context in which both are loaded, and out of which the names are given: they win.
    """
    return LOADERS[form](function, namespace, world, imports or Nothing())


def load_pickled(function: bytes, namespace: bytes, world: "World", imports: "Any") -> "Callable[..., Any]":
    """Return the callable from its two pickles, which share one memo."""
    from .wire.loader import Loader  # which knows of jobs, and these of this module

    unpickler = Loader(io.BytesIO(function + namespace), world)
    with imports:
        target = unpickler.load()  # type: Callable[..., Any]
        names = unpickler.load() if namespace else {}
    inject(target, names)
    world.give(names)
    return target


LOADERS = {PICKLE: load_pickled, BY_NAME: load_pickled}  # by the name of the form


def call(function: "Callable[..., Any]", *args: "Any", **kwargs: "Any") -> "Any":
    """Return what a call returns, as operator.call does from 3.11 on."""
    return function(*args, **kwargs)


def asks_for_controller(function: object) -> "Callable[[tuple[Any, ...], dict[str, Any]], bool] | None":
    """Return what tells whether a call leaves the parameter `controller` without a value; None if no call does.

    A parameter with a default asks if that is None. What is called by operator.call is asked itself, with each call.
    """
    if function is getattr(operator, "call", call):  # 3.11
        return _first_asks
    try:
        signature = _signature_with_controller(function)
    except Exception:  # what cannot be looked at does not ask
        return None
    if signature is None:
        return None

    def asks(args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> bool:
        try:
            return CONTROLLER not in signature.bind_partial(*args, **kwargs).arguments
        except TypeError:  # the call itself will say what is wrong with it
            return False

    return asks


def _signature_with_controller(function: "Any") -> "inspect.Signature | None":
    codes = [each.__code__ for each in functions_behind(function)]
    if not any(CONTROLLER in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] for code in codes):
        return None
    import inspect  # not at the top: most functions do without

    for each in [function] + list(functions_behind(function)):  # what wraps it takes it, too
        inspect.signature(each, follow_wrapped=False).bind_partial(**{CONTROLLER: None})
    signature = inspect.signature(function)
    parameter = signature.parameters.get(CONTROLLER)
    if parameter is None or (parameter.default is not parameter.empty and parameter.default is not None):
        return None
    return signature


def _first_asks(args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> bool:
    asks = asks_for_controller(args[0]) if args else None
    return asks is not None and asks(args[1:], kwargs)


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
