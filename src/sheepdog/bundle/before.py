"""Before: what a request had of the user's own files, when it is run again with another function.

Its arguments are stored, and need of them what they needed. What can be imported here counts as it is now; what cannot
is taken from what was sent.
"""

from __future__ import annotations

import importlib.machinery
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..client.bundle import DIGEST, bundle_of
from ..values.packages import Wanted
from .archive import Contents, unpacked
from .bundle import Bundle
from .own import Modules

SUFFIXES = tuple(importlib.machinery.all_suffixes())
NOTHING = Contents({}, ())


@dataclass(frozen=True, slots=True)
class Before:
    """names: the own modules that were named, and others that were imported. state: what modules were set to."""

    names: frozenset[str] = frozenset()
    state: Mapping[str, bytes] = field(default_factory=dict)
    contents: Contents = NOTHING
    wanted: tuple[Wanted, ...] = ()

    def beside(self, bundle: Bundle) -> Bundle:
        """Return a bundle with what was sent, too, and cannot be had here any more. Its own files win."""
        new, modules = bundle.contents, Modules()
        gone = {
            path: content
            for path, content in self.contents.files.items()
            if path not in new.files and not is_here(path, self.contents.roots, modules)
        }
        if not gone:
            return bundle
        roots = (root for root in self.contents.roots if root in gone or any(_is_below(path, root) for path in gone))
        contents = Contents({**gone, **new.files}, tuple(dict.fromkeys((*new.roots, *roots))))
        return replace(bundle, contents=contents)

    def state_with(self, now: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return what modules are set to: as they are here, and as they were if they have not been imported here."""
        return {**{name: data for name, data in self.state.items() if name not in sys.modules}, **now}

    def packages_with(self, now: Iterable[Wanted]) -> tuple[Wanted, ...]:
        """Return the installed packages that are needed now, and those that were: perhaps by the arguments."""
        wanted = {each.name: replace(each, certain=False, elsewhere=False) for each in self.wanted}
        return tuple({**wanted, **{each.name: each for each in now}}.values())


def read(manifests: Iterable[bytes], archive: Callable[[bytes], bytes], wanted: Iterable[Wanted] = ()) -> Before:
    """Return what was sent with a request: its manifests, the last to count most. archive gives that of a hash."""
    names: set[str] = set()
    state: dict[str, bytes] = {}
    bundles: dict[bytes, None] = {}
    for manifest in manifests:
        set_to, second = pickle.loads(manifest[DIGEST:])  # made by this account: no other request is run again
        names.update(second)
        state.update(set_to)
        bundles.pop(bundle_of(manifest), None)
        bundles[bundle_of(manifest)] = None
    contents = NOTHING
    for each in bundles:
        more = unpacked(archive(each))
        contents = Contents({**contents.files, **more.files}, tuple(dict.fromkeys((*more.roots, *contents.roots))))
    return Before(frozenset(names), state, contents, tuple(wanted))


def is_here(path: str, roots: Iterable[str], modules: Modules) -> bool:
    """Tell whether a file is that of a module which can be imported here, from wherever it lies now."""
    for root in (root for root in roots if _is_below(path, root)):
        folder, _, last = path[len(root.rstrip("/")) + 1 :].rpartition("/")
        if last.endswith(SUFFIXES):
            stem = last.partition(".")[0]
            name = ".".join([*filter(None, folder.split("/")), *([stem] if stem != "__init__" else [])])
            module = modules.find(name)
            if module is not None and not module.is_gone:
                return True
    return False


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")
