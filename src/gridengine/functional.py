"""map over one iterable, and partial, whose name tells its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sheepdog.front.results import results

from .schedulers import as_scheduler, best_available, join


def map(
    f: Callable[[Any], Any], args: Iterable[Any], scheduler: object = best_available, reraise: bool = True
) -> list[Any]:
    """Return [f(x) for x in args], computed by a scheduler: one, or a class or a function that makes one.

    If calls fail, the first of their errors is raised, as it was where that can be; the other results are in the
    database still. Unless reraise, the exceptions are in the list instead, and nothing is raised.
    """
    request = as_scheduler(scheduler).map(f, args)
    join(request)
    return results(*request, reraise)


def partial(f: Callable[..., Any], *args: Any, **kwargs: Any) -> functools.partial[Any]:
    """Return a functools.partial that has the docstring of f, and a name that tells the arguments: f_2 of f and 2.

    Numbers, also as text, are told by their first five characters, functions and classes by their names, others by
    their types.
    """
    made = functools.partial(f, *args, **kwargs)
    functools.update_wrapper(made, f)
    del made.__wrapped__  # type: ignore[attr-defined]  # its signature is another
    made.__name__ = "_".join(names_of(f, *args, *kwargs.values()))  # type: ignore[attr-defined]
    return made


def names_of(*values: Any) -> Iterator[str]:
    """Yield what a partial's name says of each value."""
    for value in values:
        yield str(getattr(value, "__name__", str(value)[:5] if is_numeric(value) else type(value).__name__))


def is_numeric(value: Any) -> bool:
    """Tell whether a value is a number, or a text that is one."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return isinstance(value, int)
    return True
