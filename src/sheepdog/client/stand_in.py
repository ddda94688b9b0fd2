"""Stands in for this library where it is not: the user's own modules may import it, though nothing of it is used there.

A worker has no Sheepdog. What a module takes of it can be named there, as a base class or in an `except`; to call it is
an error with a sentence.
"""

import sys
import types

from .job import OURS, JobBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class StandIns(object):
    """Finds a stand-in for each of this library's modules, when nobody else finds the module."""

    def start(self) -> None:
        """Be asked after all others."""
        sys.meta_path.append(self)

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":  # noqa: ARG002
        """Return how the stand-in of a module is made; None for all other modules."""
        if name.partition(".")[0] not in OURS:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: "Any") -> types.ModuleType:
        """Return a module that has whatever is asked for."""
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: it is ready."""


class StandIn(types.ModuleType):
    """A module that has whatever is asked for: Job as it is here, and classes that nothing can be made of."""

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        found = JobBase if name == "Job" else unusable(self.__name__, name)
        setattr(self, name, found)
        return found


def unusable(module: str, name: str) -> type:
    """Return a class, as those of exceptions are, that says so when it is called."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("%s.%s cannot be used in a task: there is no %s on a worker" % (module, name, OURS[0]))

    return type(name, (Exception,), {"__init__": refuse, "__module__": module})
