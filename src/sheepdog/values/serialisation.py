"""How functions, arguments and results travel: by cloudpickle, and plain data by pickle alone.

What is in a module goes by its name; how the modules get there is in bundle/.

The function and its namespace are two dumps of one pickler, so what they share stays shared on the worker: functions
of one module have one set of globals there, as they have here.
"""

from __future__ import annotations

import functools
import hashlib
import io
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any, BinaryIO

from ..client import BY_NAME, MAX_VALUE, PICKLE, describe_python, dump, load, make_pickler
from ..client.wire.calls import SMALL, call_by_name, call_with, split
from ..errors import ArgumentsError, SerialisationError
from .forms import Form
from .plain import read_plain

serialise = dump

MAX_NAMES = 1000  # that a Python of another kind looks up before it has a task


def deserialise(data: bytes, trusted: bool = True) -> Any:
    """Return the value. Runs code if the data says so, unless trusted is false: then all but plain data is refused.

    Nothing that is here changes: see client.load.
    """
    return load(data) if trusted else read_plain(data)


def form(by_value: bool = True, names: Iterable[Sequence[str]] = ()) -> dict[str, Any]:
    """Return the form in which a function has left this interpreter, as it is stored with a request.

    by_value: something of it, or of its arguments, is not made by its name over there. names are those of the rest.
    """
    if by_value:
        return Form(PICKLE, describe_python()).stored()
    return Form(BY_NAME, describe_python(), [*islice(names, MAX_NAMES)]).stored()


def serialise_function(
    f: Callable[..., Any],
    ns: Mapping[str, Any] | None = None,
    pickler: Callable[[BinaryIO], Any] = make_pickler,
) -> tuple[bytes, bytes]:
    """Return the function and its namespace as bytes; the namespace is empty if there is none."""

    if not callable(f):
        raise SerialisationError(f"f is {f!r}, a {type(f).__name__}; it must be something that can be called")
    for name in ns or {}:
        if not isinstance(name, str) or not name.isidentifier():
            raise SerialisationError(f"ns has the key {name!r}; each must be a name, as after `global`")
    buffer = io.BytesIO()
    dumper = pickler(buffer)
    try:
        dumper.dump(f)
    except Exception as error:
        raise SerialisationError(f"the function {name_of(f)} cannot be serialised: {error}") from error
    function = buffer.getvalue()
    require_fits(f"the function {name_of(f)}, with what it uses,", len(function))
    if not ns:
        return function, b""
    try:
        dumper.dump(dict(ns))
    except Exception as error:
        raise SerialisationError(_blame_namespace(ns, error)) from error
    require_fits(f"the function {name_of(f)}, with what it uses and ns,", buffer.tell())
    return function, buffer.getvalue()[len(function) :]


def require_fits(what: str, size: int) -> None:
    """Raise SerialisationError if something has more bytes than can be stored."""
    if size > MAX_VALUE:
        raise SerialisationError(
            f"{what} has {size:,} bytes when it is serialised; at most {MAX_VALUE:,} can be stored: write the data to "
            "a file that the workers can read, and pass its name"
        )


def _blame_namespace(ns: Mapping[str, Any], error: Exception) -> str:
    for name, value in ns.items():
        try:
            dump(value)
        except Exception as cause:
            return f"ns[{name!r}], a {type(value).__name__}, cannot be serialised: {cause}"
    return f"ns cannot be serialised: {error}"


def name_of(f: Callable[..., Any]) -> str:
    """Return a telling name of a callable."""
    if isinstance(f, functools.partial) and "__name__" in vars(f):
        return str(vars(f)["__name__"])
    inner = getattr(f, "func", f)
    return str(getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or type(f).__name__)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The positional and the keyword arguments of one call; and its name, for errors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str = ""

    def __str__(self) -> str:
        each = [*map(_brief, self.args), *(f"{name}={_brief(value)}" for name, value in self.kwargs.items())]
        text = f"{self.name}({', '.join(each)})"
        return text if len(text) <= 120 else text[:116] + "...)"


def serialise_arguments(args: Iterable[Any], dump: Callable[[Any], bytes] = dump) -> Iterator[bytes]:
    """Yield each item of args as bytes: the pickle of a tuple of positional and a dict of keyword arguments.

    Where the item was a dict, there is None for the tuple.
    """
    for index, item in enumerate(args):
        if isinstance(item, Arguments):
            call: tuple[tuple[Any, ...] | None, dict[str, Any]] = (item.args, item.kwargs)
        elif isinstance(item, (tuple, list)):
            call = (tuple(item), {})
        elif isinstance(item, dict) and all(isinstance(key, str) for key in item):
            call = (None, item)
        else:
            raise ArgumentsError(
                f"item {index} of args is {_brief(item)}, a {type(item).__name__}; each item must be a tuple or "
                "a list of positional arguments, or a dict of keyword arguments. For one argument x, write (x,)"
            )
        try:
            data = dump(call)
        except Exception as error:
            which = f"the call {item}" if isinstance(item, Arguments) else f"item {index} of args, {_brief(item)},"
            raise SerialisationError(f"{which} cannot be serialised: {error}") from error
        require_fits(f"item {index} of args", len(data))  # to show it would take a minute
        yield data


class Sent:
    """The state in which each function was sent last. A worker keeps a function that it has, and what that has changed.

    So one that is as it was before it was otherwise must not be the same bytes again.
    """

    def __init__(self) -> None:
        self.last: weakref.WeakKeyDictionary[FunctionType, tuple[int, int]] = weakref.WeakKeyDictionary()

    def stamp(self, f: object, data: bytes) -> bytes:
        """Return a function's pickle with the number of its changes, which stands where nobody reads any more."""
        if not isinstance(f, FunctionType):
            return data
        content = hash(data)
        last, number = self.last.get(f, (content, 0))
        number += last != content
        self.last[f] = content, number
        return data + (b"%d" % number if number else b"")


def serialise_call(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    sent: Sent,
    dump: Callable[[Any], bytes] = dump,
) -> tuple[bytes, bytes]:
    """Return one call as bytes, and the function if the call only names it, by its hash; else nothing.

    It is serialised anew with each call: what it uses may have changed.
    """
    try:
        function, arguments = sent.stamp(f, dump(f)), dump((args, dict(kwargs)))
    except Exception as error:
        call = Arguments(args, dict(kwargs), name_of(f))
        raise SerialisationError(f"the call {call} cannot be serialised: {error}") from error
    if len(function) + len(arguments) > MAX_VALUE:
        require_fits(f"the call of {name_of(f)}", len(function) + len(arguments))
    if len(function) <= SMALL:
        return call_with(function, arguments), b""
    return call_by_name(hashlib.sha256(function).digest(), arguments), function


def deserialise_arguments(data: bytes, trusted: bool = True, file: Callable[[str], bytes] | None = None) -> Any:
    """Return an item of args: a tuple, or a dict if it was one; Arguments if there are both.

    Of an executor's call, the function is the first. file returns one that the call only names.
    """
    name, function, rest = split(data)
    args, kwargs = deserialise(rest, trusted)
    if name:
        if file is None:
            raise LookupError(f"the function of this call is in the file {name.hex()} of its database")
        function = file(name.hex())
    if function:
        args = (deserialise(function, trusted), *args)
    if args and kwargs:
        return Arguments(args, kwargs)
    return kwargs if args is None else args


def _brief(item: Any) -> str:
    try:
        text = repr(item)
    except Exception:
        text = f"<{type(item).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def names_in(module: ModuleType) -> dict[str, Any]:
    """Return what is in a module, without asking it: to look at one that is loaded lazily would load it, or fail."""
    try:
        found = object.__getattribute__(module, "__dict__")
    except AttributeError:  # anything can be in sys.modules
        return {}
    return found if isinstance(found, dict) else {}
