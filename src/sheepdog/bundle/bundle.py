"""Bundles: all that a request needs of the user's own files, as one archive, found anew only when something changed."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from . import data
from .archive import Contents, pack, read
from .code import Import
from .facts import Fact
from .imports import Reached, Used, follow
from .needs import Needs, second_forms
from .own import TRAVELS, Kind, Module, Modules
from .stamps import Stamp, is_settled, stamp_of
from .state import Watch

MAX_STAND_INS = 50  # modules that something stands for though the request does not name them
MAX_KEPT = 16  # bundles of which this process remembers what was found

Ship = Iterable[str | os.PathLike[str]] | bool


@dataclass(frozen=True)
class Bundle:
    """Own files that travel together. name says what is in them; names are those that its functions use."""

    contents: Contents
    reached: Reached
    names: frozenset[str]
    facts: tuple[Fact, ...]

    @property
    def modules(self) -> dict[str, Module]:
        """Those that are imported from it, by name."""
        return self.reached.own

    @property
    def used(self) -> dict[str, Used]:
        """The installed packages that its code imports, by name."""
        return self.reached.used

    @property
    def name(self) -> str:
        """What the bundle is known by."""
        return self.contents.name

    def pack(self) -> bytes:
        """Return the archive."""
        return pack(self.contents)

    def second(self, needs: Needs, theirs: dict[tuple[str, str], Needs] | None = None) -> dict[str, dict[str, bytes]]:
        """Return what stands for modules that cannot be imported over there, by module and name.

        Those are the modules that a request names, those above them, and some others: the nearest, and first of all
        those that import installed packages, which may not be there. theirs is given what each needs.
        """
        named = {part for name in needs.modules for part in _with_above(name)}
        there = [name for name in self.modules if name in sys.modules]
        others = sorted((name for name in there if name not in named), key=self._needs_none)
        chosen = [name for name in there if name in named] + others[:MAX_STAND_INS]
        return second_forms(chosen, needs, self.names | needs.names(), theirs)

    def _needs_none(self, name: str) -> bool:
        """Tell whether a module imports no installed package."""
        look = self.reached.looks.get(name)
        return look is None or not any(each.name.partition(".")[0] in self.used for each in look.imports)

    def watch(self, needs: Needs) -> Watch:
        """Return what tells what its modules are set to, so far as that is plain data that its code, or other, uses."""
        names, contents = self.names | needs.names(), self.contents
        return Watch(self.modules.values(), self.reached.looks, names, contents.places, contents.roots)


def _with_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


@dataclass(frozen=True, slots=True)
class _Found:
    bundle: Bundle
    stamps: dict[str, Stamp]
    asked: dict[str, frozenset[str]]
    listings: dict[str, frozenset[str]]

    def holds(self) -> bool:
        """Tell whether all is as it was."""
        if any(data.listing(folder, texts) != self.listings[folder] for folder, texts in self.asked.items()):
            return False
        try:
            return all(stamp_of(os.stat(path)) == stamp for path, stamp in self.stamps.items())
        except OSError:
            return False


class Bundles:
    """The bundles of this process. One that was found before is found again by looking at its files' times."""

    def __init__(self) -> None:
        self._found: dict[Any, _Found] = {}
        self._lock = threading.Lock()

    def find(self, needs: Needs, ship: Ship = ()) -> Bundle:
        """Return the bundle for what is needed, and for what else is to be shipped: paths, names of own modules.

        ship=False: an empty one. Raises ConfigError for what cannot be shipped.
        """
        if ship is False:
            return _make((), (), ())[0]
        names, paths = chosen(() if ship is True else ship)
        loaded = frozenset(name for name in list(sys.modules) if name not in sys.stdlib_module_names)
        start, imports = frozenset((*needs.modules, *names)), needs.imports()
        certain = frozenset(needs.named)
        key = (start, certain, imports, paths, tuple(sys.path), hash(loaded))
        with self._lock:
            found = self._found.get(key)
        if found is not None and found.holds():
            return found.bundle
        bundle, again = _make(sorted(certain), imports, paths, sorted(start - certain))
        with self._lock:
            self._found.pop(key, None)
            if again is not None:
                self._found[key] = again
            while len(self._found) > MAX_KEPT:
                self._found.pop(next(iter(self._found)))
        return bundle


KERNEL = ("/proc/", "/sys/", "/dev/")
GLOB = re.compile(r"[*?\[]")


def chosen(ship: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of modules and the paths that `ship` gives."""
    if isinstance(ship, (str, bytes)) or not hasattr(ship, "__iter__"):
        raise ConfigError(f"ship is {ship!r}; it must be a list of files, folders and names of own modules, or False")
    names: list[str] = []
    paths: list[str] = []
    modules = Modules()
    for each in ship:
        if not isinstance(each, (str, os.PathLike)):
            raise ConfigError(f"ship has {each!r}, a {type(each).__name__}; it must be a path or the name of a module")
        path = os.path.abspath(os.path.expanduser(os.fspath(each)))
        module = modules.find(each) if isinstance(each, str) and "/" not in each and each.isprintable() else None
        if os.path.isfile(path) or os.path.isdir(path):
            if path.startswith(KERNEL):
                raise ConfigError(f"ship has {each!r}, which the kernel makes whenever it is read: copy it to a file")
            paths.append(path)
        elif os.path.exists(path):
            raise ConfigError(f"ship has {each!r}; {path} is neither a file nor a folder, and cannot be shipped")
        elif module is None and GLOB.search(os.fspath(each)):
            raise ConfigError(
                f"ship has {each!r}; there is no file {path}, and patterns are not expanded: give the folder, or "
                f"*glob.glob({each!r})"
            )
        elif module is None:
            raise ConfigError(f"ship has {each!r}; there is no file {path}, and no module of this name")
        elif module.kind == Kind.INSTALLED:
            raise ConfigError(f"ship has {each!r}, which is an installed package; ship takes your own files only")
        elif module.kind not in (*TRAVELS, Kind.NAMESPACE):
            raise ConfigError(f"ship has {each!r}, which is {module.kind.value}: it cannot be shipped")
        else:
            names.append(str(each))
    return tuple(names), tuple(paths)


def _make(
    names: Iterable[str], imports: Iterable[tuple[Import, str]], paths: Iterable[str], possible: Iterable[str] = ()
) -> tuple[Bundle, _Found | None]:
    """Return a bundle, and what it is found again by; None if a file may still be being written."""
    reached = follow(names, imports, possible)
    files = data.gather(reached.own, reached.looks, paths)
    roots = _roots(reached.own.values())
    asked = {folder: files.asked.get(folder, frozenset()) for folder in {*roots, *files.asked}}
    listings = {folder: data.listing(folder, texts) for folder, texts in asked.items()}
    contents, facts = read(files.paths, roots)
    used = frozenset().union(*(look.names for look in reached.looks.values()))
    bundle = Bundle(contents, reached, used, (*reached.facts, *files.facts, *facts))
    there = {**files.paths, **files.folders}
    if not all(is_settled(found) for found in there.values()):
        return bundle, None
    return bundle, _Found(bundle, {path: stamp_of(found) for path, found in there.items()}, asked, listings)


def _roots(modules: Iterable[Module]) -> list[str]:
    """Return the folders that must be on sys.path, in the order in which they are there now."""
    order = {os.path.abspath(entry): place for place, entry in reversed(list(enumerate(sys.path)))}
    return sorted({module.root for module in modules}, key=lambda root: (order.get(root, len(order)), root))
