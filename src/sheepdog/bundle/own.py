"""Own modules: which of them are the user's files, and where each lies. Nothing is imported, and no module is asked."""

from __future__ import annotations

import enum
import functools
import importlib.machinery
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..client import OURS
from ..values.serialisation import names_in
from .installed import is_installed

SOURCE = ".py"
NEVER = (*OURS, "cloudpickle")
"""Top names that the other end has, or stands for: they never travel as the user's."""


class Kind(enum.Enum):
    """What a module is, and so how it travels."""

    OWN = "the user's own source"
    COMPILED = "the user's own, without a source that Python reads: an extension module, or bytecode alone"
    ZIPPED = "the user's own, in a zip file"
    NAMESPACE = "folders without an __init__.py"
    INSTALLED = "of an installed package"
    STANDARD = "of the standard library, or built in"
    NO_FILE = "in this process only: made here, or by a loader that knows another kind of file"


TRAVELS = (Kind.OWN, Kind.COMPILED, Kind.ZIPPED)


@dataclass(frozen=True, slots=True)
class Module:
    """A module: its file, and the folder (or zip file, or folder in one) above it that is to be on sys.path.

    paths are where its submodules are looked for; empty if it is no package. archive is the zip file that it is in.
    """

    name: str
    kind: Kind
    path: str = ""
    root: str = ""
    paths: tuple[str, ...] = ()
    archive: str = ""

    @property
    def file(self) -> str:
        """The file that goes along."""
        return self.archive or self.path

    @property
    def package(self) -> str:
        """The package whose directory it goes along with; its own name if it is one; empty for a flat module."""
        return self.name if self.paths else self.name.rpartition(".")[0]

    @property
    def travels(self) -> bool:
        """Tell whether its file goes along, so that it is imported by its name over there."""
        return self.kind in TRAVELS

    @property
    def is_gone(self) -> bool:
        """Tell whether it was to travel, and its file is not there any more."""
        return self.travels and not os.path.exists(self.file)


class Modules:
    """Modules by name: those that are imported already, as they are, and others as an import would find them."""

    def __init__(self) -> None:
        self._found: dict[str, Module | None] = {}

    def find(self, name: str) -> Module | None:
        """Return a module; None if an import would not find one."""
        if name not in self._found:
            self._found[name] = None  # of a package that is asked about itself
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Module | None:
        if name in sys.modules and isinstance(sys.modules[name], ModuleType):
            return describe(name, sys.modules[name])
        above, _, _ = name.rpartition(".")
        path: tuple[str, ...] | None = None
        if above:
            parent = self.find(above)
            if parent is None or not parent.paths or parent.kind in (Kind.INSTALLED, Kind.STANDARD):
                return None
            path = parent.paths
        spec = find_spec(name, path)
        if spec is not None:
            return _module(name, spec.origin, spec.submodule_search_locations, spec)
        # A namespace in a namespace is found by PathFinder only when the outer one has been imported.
        folders = tuple(os.path.join(place, name.rpartition(".")[2]) for place in path or ())
        places = tuple(filter(os.path.isdir, folders))
        return Module(name, Kind.NAMESPACE, paths=places) if places else None


def find_spec(name: str, path: tuple[str, ...] | None) -> ModuleSpec | None:
    """Return what the finders of this process say of a module, as an import would ask them; nothing is imported."""
    for finder in list(sys.meta_path):
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # noqa: S112 (a finder that cannot say finds nothing)
            continue
        if spec is not None:
            return spec
    return None


def describe(name: str, module: ModuleType) -> Module:
    """Return what a module is that has been imported, without asking it: one that is loaded lazily stays as it is."""
    names = names_in(module)
    spec = names.get("__spec__")
    file = names.get("__file__") or getattr(spec, "origin", None)
    return _module(name, file, names.get("__path__"), spec)


def loaded() -> dict[str, ModuleType]:
    """Return the modules that have been imported, under the name that each was imported as."""
    return {name: module for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)}


def _module(name: str, file: Any, paths: Iterable[str] | None, spec: Any) -> Module:
    try:  # a namespace's path asks sys.modules for the package above, which may not have been imported
        places = tuple(os.path.abspath(path) for path in getattr(paths, "_path", paths) or () if isinstance(path, str))
    except Exception:  # a __path__ of a kind of its own
        places = ()
    if file in ("built-in", "frozen"):
        return Module(name, Kind.STANDARD, "", "", places)
    if not isinstance(file, str):
        if name.partition(".")[0] in sys.stdlib_module_names and not places:
            return Module(name, Kind.STANDARD)
        return Module(name, Kind.NAMESPACE if places else Kind.NO_FILE, "", "", places)
    file = os.path.abspath(file)
    if is_standard(file):
        return Module(name, Kind.STANDARD, file, "", places)
    archive = getattr(getattr(spec, "loader", None), "archive", None)
    archive = os.path.abspath(archive) if isinstance(archive, str) else ""
    root = root_of(name, file, bool(paths)) or archive
    if name.partition(".")[0] in NEVER or is_installed(file, archive or root or os.path.dirname(file)):
        return Module(name, Kind.INSTALLED, file, root, places)
    if archive:
        return Module(name, Kind.ZIPPED, file, root, places, archive)
    if not root or name == "__main__":
        return Module(name, Kind.NO_FILE, file, "", places)
    if file.endswith(SOURCE):
        return Module(name, Kind.OWN, file, root, places)
    if file.endswith(tuple(importlib.machinery.all_suffixes())):
        return Module(name, Kind.COMPILED, file, root, places)
    return Module(name, Kind.NO_FILE, file, "", places)


def root_of(name: str, file: str, is_package: bool) -> str:
    """Return the folder that must be on sys.path for a file to be found by this name; empty if no folder is.

    That is so for a module that was given another name than its file: importlib can do that, and so can an editable
    install whose package has another name than its folder.
    """
    folder, base = os.path.split(file)
    parts = name.split(".")
    stem = base.partition(".")[0]
    if is_package:
        if stem != "__init__":
            return ""
    elif parts.pop() != stem:
        return ""
    for part in reversed(parts):
        folder, last = os.path.split(folder)
        if last != part:
            return ""
    return folder


def is_standard(file: str) -> bool:
    """Tell whether a file is of the standard library."""
    return file.startswith(_standard()) and not any(
        f"/{place}/" in file for place in ("site-packages", "dist-packages")
    )


@functools.cache
def _standard() -> tuple[str, ...]:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folders = {os.path.dirname(os.__file__), os.path.join(sys.base_exec_prefix, sys.platlibdir, version)}
    folders |= {os.path.realpath(folder) for folder in folders}
    return tuple(folder.rstrip("/") + "/" for folder in folders)
