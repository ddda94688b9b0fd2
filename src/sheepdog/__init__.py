"""Run your function over many argument tuples on the cluster you can ssh to, with nothing installed there.

import sheepdog
results = sheepdog.map(f, [(1, 2), (3, 4)], {"host": "fear"})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from . import client, config, deployment, errors, job_file, serialisation, server, storage
    from .config import Config
    from .errors import NotRun, SheepdogError, TaskFailed
    from .front.executor import Executor
    from .front.functional import (
        cancel,
        follow_reports,
        get_errors,
        get_output,
        get_reports,
        get_results,
        imap,
        job_script,
        map,
        map_async,
        remove,
        retry,
        take_over,
    )
    from .front.job import Job, dispatch_jobs
    from .front.kept import kept
    from .front.pythons import pythons
    from .server import Server
    from .storage import Storage

_HOMES = {
    "Config": "config",
    "Executor": "front.executor",
    "Job": "front.job",
    "NotRun": "errors",
    "Server": "server",
    "SheepdogError": "errors",
    "Storage": "storage",
    "TaskFailed": "errors",
    "cancel": "front.functional",
    "dispatch_jobs": "front.job",
    "follow_reports": "front.functional",
    "get_errors": "front.functional",
    "get_output": "front.functional",
    "get_reports": "front.functional",
    "get_results": "front.functional",
    "imap": "front.functional",
    "job_script": "front.functional",
    "kept": "front.kept",
    "map": "front.functional",
    "map_async": "front.functional",
    "pythons": "front.pythons",
    "remove": "front.functional",
    "retry": "front.functional",
    "take_over": "front.functional",
}
_MODULES = ("client", "config", "deployment", "errors", "job_file", "serialisation", "server", "storage")

_DISTRIBUTION: Mapping[str, Callable[[Any], Any]] = {
    "__author__": lambda about: about["Author"],
    "__license__": lambda about: about["License-Expression"],
    "__version__": lambda about: about["Version"],
    "__version_info__": lambda about: tuple(int(part) for part in about["Version"].split(".") if part.isdigit()),
}

__all__ = [
    "Config",
    "Executor",
    "Job",
    "NotRun",
    "Server",
    "SheepdogError",
    "Storage",
    "TaskFailed",
    "cancel",
    "client",
    "config",
    "deployment",
    "dispatch_jobs",
    "errors",
    "follow_reports",
    "get_errors",
    "get_output",
    "get_reports",
    "get_results",
    "imap",
    "job_file",
    "job_script",
    "kept",
    "map",
    "map_async",
    "pythons",
    "remove",
    "retry",
    "serialisation",
    "server",
    "storage",
    "take_over",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `import sheepdog` is quick."""
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in _DISTRIBUTION:
        try:
            return _DISTRIBUTION[name](importlib.import_module("importlib.metadata").metadata("sheepdog"))
        except ImportError as error:  # it lies somewhere, and has not been installed
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it is not installed") from error
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
