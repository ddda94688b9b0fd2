"""Imports: which own modules, and which installed packages, code comes to when it is followed. Nothing is run."""

from __future__ import annotations

import os
import zipimport
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import FunctionType, ModuleType

from ..values.serialisation import names_in
from .changes import sights
from .code import ANY, Import, Look, look_at, looks
from .facts import Fact, Why
from .installed import Distribution, distribution_of
from .own import Kind, Module, Modules, loaded


@dataclass(frozen=True, slots=True)
class Used:
    """An installed package that code imports; by is the file in which that stands, or empty.

    certain: the import is made whenever the code's module is imported.
    """

    name: str
    certain: bool
    by: str
    path: str
    root: str

    @property
    def distribution(self) -> Distribution | None:
        """What was installed, with its version; None if that cannot be known."""
        return distribution_of(self.path, self.root) if self.path else None


@dataclass(slots=True)
class Reached:
    """What code comes to: own modules and installed packages, by name, and what the user should hear of them.

    edges: by own module, what is imported whenever it is.
    """

    own: dict[str, Module] = field(default_factory=dict)
    used: dict[str, Used] = field(default_factory=dict)
    edges: dict[str, set[str]] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)


def follow(names: Iterable[str], imports: Iterable[tuple[Import, str]] = (), possible: Iterable[str] = ()) -> Reached:
    """Return what these modules come to: imported already or not, at once or when a function is called.

    imports: those of code that goes by value, each with the package that it is relative to. possible: modules that are
    imported perhaps. Of an own package, all modules that have been imported count; if code imports by a name that it
    makes, all own modules that have been imported do.
    """
    return _Walk().run(names, imports, possible)


class _Walk:
    def __init__(self) -> None:
        self.modules = Modules()
        self.loaded = loaded()
        self.reached = Reached()
        self.seen: set[str] = set()
        self.any = False
        self.certain: deque[tuple[str, str]] = deque()
        self.possible: deque[tuple[str, str]] = deque()

    def run(self, names: Iterable[str], imports: Iterable[tuple[Import, str]], possible: Iterable[str]) -> Reached:
        self.certain.extend((name, "") for name in names)
        self.possible.extend((name, "") for name in possible)
        for each, package in imports:
            self.meet(each, package, "", False)
        while self.certain or self.possible:
            certain = bool(self.certain)
            name, by = (self.certain or self.possible).popleft()
            if name not in self.seen:
                self.seen.add(name)
                self.visit(name, by, certain)
        return self.reached

    def add(self, name: str, by: str, certain: bool) -> None:
        if name not in self.seen:
            (self.certain if certain else self.possible).append((name, by))

    def visit(self, name: str, by: str, certain: bool) -> None:
        above = name.rpartition(".")[0]
        if above:
            self.add(above, by, certain)
        module = self.modules.find(name)
        if module is None:
            return
        if module.kind == Kind.INSTALLED:
            top = self.modules.find(above) if above else None
            if top is None or top.kind != Kind.INSTALLED:
                self.reached.used[name] = Used(name, certain, by, module.path, module.root)
            return
        if not module.travels:
            return
        if module.is_gone:
            self.tell(Why.GONE, module)
            self.visit_values(module, by)
            return
        self.reached.own[name] = module
        if not above:
            inside = name + "."
            for other in self.loaded:
                if other.startswith(inside):
                    self.add(other, module.path, False)
        if look := self.look(module):
            self.reached.looks[name] = look
            package = name if module.paths else above
            edges = self.reached.edges.setdefault(name, {above} - {""})
            for each in look.imports:
                met = self.meet(each, package, module.path, certain and each.certain)
                edges.update(met if each.certain else ())

    def visit_values(self, module: Module, by: str) -> None:
        """Take up what a module that goes by value has of others, and what its functions import."""
        for value in list(names_in(self.loaded[module.name]).values()) if module.name in self.loaded else ():
            if isinstance(value, ModuleType):
                self.add(value.__name__, by, False)
            elif isinstance(value, (FunctionType, type)):
                self.add(str(value.__module__), by, False)
            if isinstance(value, FunctionType):
                for each in look_at(value.__code__).imports:
                    self.meet(each, module.package, by, False)

    def look(self, module: Module) -> Look | None:
        """Return what is in a module's code; None if that cannot be read."""
        if module.kind == Kind.COMPILED:
            self.tell(Why.COMPILED, module)
            if not module.path.endswith(".pyc"):
                return None
        try:
            if module.kind == Kind.ZIPPED:
                folder = os.path.dirname(os.path.dirname(module.path) if module.paths else module.path)
                return look_at(zipimport.zipimporter(folder).get_code(module.name))
            look = looks.get(module.path)
        except SyntaxError as error:
            self.tell(Why.SYNTAX, module, f"line {error.lineno}: {error.msg}" if error.lineno else str(error))
            return None
        except (OSError, ImportError) as error:
            self.tell(Why.UNREADABLE, module, getattr(error, "strerror", None) or str(error))
            return None
        known = self.loaded.get(module.name)
        if isinstance(known, ModuleType) and sights.has_changed(module.name, known, module.path, look):
            self.tell(Why.CHANGED, module, f"{hash(look.marks):x}")  # with each change again
        return look

    def meet(self, each: Import, package: str, by: str, certain: bool) -> list[str]:
        """Take an import up, and return what it names: the module, and the members that are modules.

        A name that is made may be that of each own module that has been imported.
        """
        if each == ANY:
            for other in [] if self.any else list(self.loaded):
                own = self.modules.find(other)
                if own is not None and own.travels and other != "__main__":
                    self.add(other, by, False)
            self.any = True
            return []
        name = absolute(each, package)
        if not name:
            return []
        met = [name]
        module = self.modules.find(name) if each.members else None
        if module is not None and module.paths and module.kind not in (Kind.INSTALLED, Kind.STANDARD):
            members = each.members if each.members != ("*",) else self.all_of(module)
            met += [f"{name}.{member}" for member in members if self.modules.find(f"{name}.{member}") is not None]
        for found in met:
            self.add(found, by, certain)
        return met

    def all_of(self, package: Module) -> Iterable[str]:
        """Return the names that `from package import *` may mean, besides what is in it."""
        if package.kind != Kind.OWN:
            return ()
        try:
            look = looks.get(package.path)
        except (OSError, SyntaxError):
            return ()
        return sorted(text for text in look.texts if text.isidentifier()) if "__all__" in look.outside else ()

    def tell(self, why: Why, module: Module, more: str = "") -> None:
        self.reached.facts.append(Fact(why, module.path, module.name, more))


def absolute(each: Import, package: str) -> str:
    """Return the full name of what is imported in a package; empty if there is no such package."""
    name = each.name.lstrip(".")
    level = each.level or len(each.name) - len(name)  # import_module(".name", package)
    if not level:
        return name
    parts = package.split(".")
    if not package or level > len(parts):
        return ""
    above = ".".join(parts[: len(parts) - level + 1])
    return f"{above}.{name}" if name else above
