"""The name `sheepdog` as a backend of joblib, known to tasks that import joblib: threads of the worker."""

import inspect
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

MODULE = "joblib.parallel"


class Finder(object):
    """An importer that adds the name to joblib when that is imported. It is asked for each module that is not there."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """Return what the others find, to be loaded by a Loader, if it is joblib's; else nothing."""
        if name != MODULE:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = Loader(spec.loader)
                return spec
        return None


class Loader(object):
    """The loader of joblib's module, and what is done when it has loaded that."""

    def __init__(self, loader: "Any") -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        """Load the module, and add the name. It has its own loader again then."""
        self.loader.exec_module(module)
        module.__loader__ = module.__spec__.loader = self.loader  # type: ignore[union-attr]
        add_name(module)


def add_name(parallel: "Any") -> None:
    """Add the name to joblib's module, unless it knows it; another version may have no place for it."""
    backends = getattr(parallel, "BACKENDS", None)
    if isinstance(backends, dict):
        backends.setdefault("sheepdog", threads(parallel))


def threads(parallel: "Any") -> "Any":
    """Return the class of the backend. It takes what Sheepdog's own takes, and has no use for it."""

    class Threads(parallel.ThreadingBackend):  # type: ignore[misc]
        default_n_jobs = -1

        def __init__(self, config: "Any" = None, workers: "Any" = None, **others: "Any") -> None:  # noqa: ARG002
            super(Threads, self).__init__(**others)

        def configure(self, n_jobs: int = 1, parallel: "Any" = None, **others: "Any") -> int:
            if unknown(others):
                names = ", ".join(sorted(unknown(others)))
                raise TypeError("the backend sheepdog takes config and workers, but not %s" % names)
            return int(super(Threads, self).configure(n_jobs, parallel))

    def unknown(others: "dict[str, Any]") -> "set[str]":
        known = inspect.signature(parallel.Parallel.__init__).parameters
        return set(others).difference(known, ("context", "config", "workers"))

    return Threads
