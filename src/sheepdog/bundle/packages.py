"""Packages: which installed packages a request needs over there, for certain or perhaps.

What loading its pickles imports is needed for certain, and so is what the user's own modules import whenever they are
imported: but where a second form stands by for a module that cannot be imported, only what that needs, too. On a Python
that is another than here nothing stands by.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..client.function import functions_behind
from ..values.packages import Wanted
from .code import Import, Look, attributes_of_globals, first_imports
from .imports import Reached, Used, absolute
from .needs import Needs
from .own import NEVER, Kind, Modules

Theirs = Mapping[tuple[str, str], Needs]  # what second forms need, by module and name

MOST_MODULES = 50  # of one package, that are looked for


def wanted(needs: Needs, reached: Reached, theirs: Theirs, called: Any = None) -> tuple[Wanted, ...]:
    """Return the installed packages of what a request has reached. theirs: what second forms need.

    called: what its tasks call, if that is known: a function that begins with imports makes them for certain.
    """
    used = {name: each for name, each in reached.used.items() if name.partition(".")[0] not in NEVER}
    if not used:
        return ()
    imports = _imports_of(called, {*reached.used, *reached.own})
    certain = _Demand(reached, theirs).run(needs, imports)
    elsewhere = _Demand(reached, {}).run(needs, imports)
    if any(map(_changes_path, reached.looks.values())):  # what is there once it has run cannot be told
        certain = elsewhere = set()
    found = []
    for name, each in sorted(used.items()):
        inside = sorted(module for module in certain if module.startswith(name + "."))
        modules = tuple(module for module in inside if _is_file(module))[:MOST_MODULES]
        there = name in elsewhere or any(module.startswith(name + ".") for module in elsewhere)
        found.append(_wanted(name, each, bool(inside) or name in certain, modules, there))
    return tuple(found)


def _wanted(name: str, used: Used, certain: bool, modules: tuple[str, ...], elsewhere: bool) -> Wanted:
    distribution = used.distribution
    known = (re.sub(r"[-_.]+", "-", distribution.name).lower(), distribution.version) if distribution else ("", "")
    return Wanted(name, *known, certain, used.by, modules, elsewhere)


def _imports_of(called: Any, known: Container[str]) -> list[str]:
    """Return the full names of what calling this imports first of all; of a package's members, the known modules."""
    found: list[str] = []
    for each in functions_behind(called):
        package = each.__globals__.get("__package__") or ""
        for one in first_imports(each.__code__):
            if name := _name(one, package):
                found += [name, *(full for member in one.members if (full := f"{name}.{member}") in known)]
    return found


def _name(each: Import, package: Any) -> str:
    return absolute(each, package if isinstance(package, str) else "")


def _is_file(name: str) -> bool:
    """Tell whether a module is a file below its package here, as it must be to be found without importing anything."""
    module = Modules().find(name)
    return module is not None and module.kind == Kind.INSTALLED and bool(module.root)


def _changes_path(look: Look) -> bool:
    """Tell whether a module may change where modules are looked for, when it is imported."""
    return "path" in look.outside and not look.outside.isdisjoint(("insert", "append", "extend", "addsitedir"))


@dataclass(slots=True)
class _Demand:
    """Finds what is needed for certain: names of installed modules, with dots."""

    reached: Reached
    theirs: Theirs
    forms: dict[str, set[str]] = field(default_factory=dict)
    seen: set[tuple[str, frozenset[str]]] = field(default_factory=set)

    def run(self, needs: Needs, imports: Iterable[str]) -> set[str]:
        for module, key in self.theirs:
            self.forms.setdefault(module, set()).add(key)
        found = self.named_by(needs)
        for name in imports:
            found |= self.imported(name)
        return found

    def named_by(self, needs: Needs) -> set[str]:
        """Return what is needed to load a pickle with these needs, and to look up what its codes take of modules."""
        codes = needs.codes if needs.named & self.reached.own.keys() else ()
        attributes = set().union(*map(attributes_of_globals, codes))
        found: set[str] = set()
        for name in needs.named:
            if name in self.reached.own:
                found |= self.looked_up(name, needs.taken.get(name, set()) | (attributes & self.forms_of(name)))
            elif self.is_used(name):
                found.add(name)
        return found

    def looked_up(self, name: str, taken: set[str]) -> set[str]:
        """Return what is needed to have these names of an own module."""
        key = name, frozenset(taken)
        if key in self.seen:
            return set()
        self.seen.add(key)
        there = self.closure(name)
        if not self.forms_of(name):
            return self.imported(name)
        if not taken <= self.forms_of(name):
            return there
        tops = {module.partition(".")[0] for module in there}
        needed = set().union(*(self.named_by(self.theirs[name, each]) for each in taken))
        return {module for module in needed if module.partition(".")[0] in tops}

    def imported(self, name: str) -> set[str]:
        """Return what is needed for an import to succeed, be it with what stands for own modules."""
        found: set[str] = set()
        seen, waiting = {name}, [name]
        for each in waiting:
            if self.is_used(each):
                found.add(each)
            elif each in self.reached.own and not self.forms_of(each):
                new = self.reached.edges.get(each, set()) - seen
                seen |= new
                waiting += new
        return found

    def closure(self, name: str) -> set[str]:
        """Return all that is imported whenever an own module is."""
        seen, waiting = {name}, [name]
        for each in waiting:
            new = self.reached.edges.get(each, set()) - seen
            seen |= new
            waiting += new
        return {each for each in seen if self.is_used(each)}

    def forms_of(self, name: str) -> set[str]:
        return self.forms.get(name, set())

    def is_used(self, name: str) -> bool:
        parts = name.split(".")
        names = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        return parts[0] not in NEVER and any(each in self.reached.used for each in names)
