"""Branches: what the top of a module sets to constants, one here and another there, by what it finds where it runs.

As a flag that says whether an import has succeeded, or a text that goes by sys.version_info. Such a name is what the
file makes of it, unless it was set since: so it must be known which branch was taken here.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

MACHINE = {
    "sys": ("version_info", "hexversion", "version", "platform", "implementation", "maxsize", "byteorder"),
    "os": ("name", "uname", "cpu_count"),
    "platform": (),
}
"""Modules, and what of them tells of a machine; all of it if none is named."""


class Branches(NamedTuple):
    """The constants that a name may have at the end: well if an import has succeeded, ill if it has not.

    imported are the names of what is imported; with none of them, it goes by what the machine is.
    """

    imported: frozenset[str]
    well: object
    ill: object

    def taken(self, there: Mapping[str, object]) -> tuple[object, ...]:
        """Return what the name may be in a module that has been imported, of which these are the globals."""
        if not self.imported:
            return self.well, self.ill
        return (self.well if any(there.get(name) is not None for name in self.imported) else self.ill,)


def branches_in(source: bytes) -> dict[str, Branches]:
    """Return the names that are set so, with their branches. SyntaxError if it is no source."""
    statements = list(_at_the_top(ast.parse(source).body))
    set_to: dict[str, list[object]] = {}
    for name, constant in _set_by(statements):
        set_to.setdefault(name, []).append(constant)
    found: dict[str, Branches] = {}
    for each in statements:
        if isinstance(each, ast.Try):
            imports = [one for one in each.body if isinstance(one, (ast.Import, ast.ImportFrom))]
            imported = frozenset(one.asname or one.name.partition(".")[0] for node in imports for one in node.names)
            ill: Iterable[ast.stmt] = itertools.chain.from_iterable(handler.body for handler in each.handlers)
            found.update(_both(imported, [*each.body, *each.orelse], ill, set_to) if imported else {})
        elif isinstance(each, ast.If) and _asks_for_the_machine(each.test):
            found.update(_both(frozenset(), each.body, each.orelse, set_to))
    return {name: each for name, each in found.items() if ... not in set_to[name]}


def may_ask_for_the_machine(names: Collection[str]) -> bool:
    """Tell whether code that uses these names may go by what sys, os or platform say."""
    return any(
        module in names and (not wanted or any(each in names for each in wanted)) for module, wanted in MACHINE.items()
    )


def _both(
    imported: frozenset[str], well: Iterable[ast.stmt], ill: Iterable[ast.stmt], set_to: Mapping[str, list[object]]
) -> dict[str, Branches]:
    """Return the branches of the names that one of them sets; what one does not set is as it was before."""
    sides = [dict(_set_by(_at_the_top(side))) for side in (well, ill)]
    found = {}
    for name in {**sides[0], **sides[1]}:
        first, *_ = set_to[name]
        found[name] = Branches(imported, sides[0].get(name, first), sides[1].get(name, first))
    return found


def _at_the_top(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, and those in their branches, but none of functions and classes."""
    for each in statements:
        yield each
        if isinstance(each, (ast.If, ast.Try, ast.For, ast.While, ast.With)):
            yield from _at_the_top(each.body)
            yield from _at_the_top(getattr(each, "orelse", ()))
            yield from _at_the_top(getattr(each, "finalbody", ()))
            for handler in getattr(each, "handlers", ()):
                yield from _at_the_top(handler.body)


def _set_by(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, object]]:
    """Yield the names that statements themselves set, each with its constant; ... if it is set to something else."""
    for each in statements:
        if isinstance(each, (ast.Assign, ast.AnnAssign)):
            value = each.value.value if isinstance(each.value, ast.Constant) else ...
            targets = each.targets if isinstance(each, ast.Assign) else [each.target] if each.value else []
            for target in targets:
                yield from ((name, value if isinstance(target, ast.Name) else ...) for name in _names(target))
        elif isinstance(each, (ast.AugAssign, ast.For)):
            yield from ((name, ...) for name in _names(each.target))
        elif isinstance(each, ast.With):
            yield from ((name, ...) for one in each.items if one.optional_vars for name in _names(one.optional_vars))
        elif isinstance(each, ast.Delete):
            yield from ((name, ...) for target in each.targets for name in _names(target))
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield each.name, ...


def _names(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def _asks_for_the_machine(test: ast.expr) -> bool:
    """Tell whether a condition goes by what sys, os or platform say."""
    for node in ast.walk(test):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MACHINE:
            wanted = MACHINE[node.value.id]
            if not wanted or node.attr in wanted:
                return True
    return False
