"""map over one iterable, and partial."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
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
    """Return a functools.partial that has the name and the docstring of f."""
    made = functools.partial(f, *args, **kwargs)
    functools.update_wrapper(made, f)
    del made.__wrapped__  # type: ignore[attr-defined]  # its signature is another
    return made
