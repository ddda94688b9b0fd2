"""What jobs call: targets that can travel, and one function for many jobs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..bundle.outgoing import Outgoing
from ..client import Call, Run, run_any
from ..errors import SerialisationError
from ..values.serialisation import Arguments, name_of, serialise_function

_can_travel: weakref.WeakValueDictionary[int, Callable[..., Any]] = weakref.WeakValueDictionary()  # by their id()


def as_map(jobs: Sequence[Call]) -> tuple[Callable[..., Any], Iterator[Arguments]]:
    """Return one function, and the arguments of each of its calls, that do what the jobs do."""
    targets = {id(job._target): job._target for job in jobs}
    target = targets.popitem()[1] if len(targets) == 1 else None
    if target is not None and all(type(job).run is Call.run for job in jobs):
        name = name_of(target)  # the function travels once
        return Run(target, name), (Arguments(job._args, job._kwargs, name) for job in jobs)
    name = type(jobs[0]).__name__ if jobs else "Job"
    return Run(run_any, name), (Arguments((job,), {}, "run") for job in jobs)


def require_travels(target: object) -> None:
    """Raise a TypeError that names a target that cannot be called or serialised."""
    if not callable(target):
        raise SerialisationError(f"target is {target!r}, a {type(target).__name__}; it must be something to call")
    if _can_travel.get(id(target)) is target:
        return
    try:
        serialise_function(target, None, Outgoing().pickler)
    except SerialisationError as error:
        raise SerialisationError(str(error).replace("the function", "the target", 1)) from error.__cause__
    try:
        _can_travel[id(target)] = target
    except TypeError:  # it takes no weak reference
        pass
