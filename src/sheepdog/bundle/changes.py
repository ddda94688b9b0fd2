"""Changes: whether a module is still what its file would make of it. Told without a false alarm, so not always told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ..values.serialisation import names_in
from .code import Look, mark_of


class Sights:
    """What the files of modules were when they were first looked at in this process."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, Look]] = {}
        self._lock = threading.Lock()

    def has_changed(self, name: str, module: ModuleType, path: str, look: Look) -> bool:
        """Tell whether a file is another than the one that a module was imported from.

        It is if a function of the module is not in the file, or if the file is not what it was when it was looked at
        before, and the module has not been loaded anew since. What other tools have made of a source is not judged.
        """
        spec = names_in(module).get("__spec__")
        if type(getattr(spec, "loader", None)) is not SourceFileLoader:
            return False
        with self._lock:
            before = self._seen.setdefault(name, (spec, look))
            if before[0] is not spec:  # reloaded
                before = self._seen[name] = spec, look
        return before[1].marks != look.marks or any(
            mark_of(code) not in look.marks for code in _codes(name, module, path)
        )

    def first(self, name: str, module: ModuleType) -> Look | None:
        """Return what was seen when a module was first looked at, since it was last loaded; None if it was not."""
        with self._lock:
            spec, look = self._seen.get(name, (None, None))
        return look if spec is not None and names_in(module).get("__spec__") is spec else None


def _codes(name: str, module: ModuleType, path: str) -> Iterator[CodeType]:
    """Yield the codes of the functions and methods that a module has from its file."""
    for value in list(names_in(module).values()):
        inner = list(vars(value).values()) if isinstance(value, type) and value.__module__ == name else ()
        for each in (value, *inner):
            if isinstance(each, (staticmethod, classmethod)):
                each = each.__func__
            if isinstance(each, FunctionType) and each.__module__ == name and each.__code__.co_filename == path:
                yield each.__code__


sights = Sights()
