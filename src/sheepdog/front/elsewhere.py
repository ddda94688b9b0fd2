"""Own modules that are not here: results of another process, or machine, are of classes that its bundle has."""

from __future__ import annotations

import importlib.machinery
import io
import json
import os
import sys
import tarfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from ..client.bundle import FILES, folder_of, is_whole, unpack
from ..errors import StorageError
from ..storage import Storage

SUFFIXES = tuple(importlib.machinery.all_suffixes())
PLACE = "~/.sheepdog/here"  # beside it are the bundles of this machine's own workers


def look_in(storage: Storage, request_id: int) -> None:
    """From now on, let own modules that cannot be imported otherwise be imported from a request's bundles."""
    known = {finder.name for finder in sys.meta_path if isinstance(finder, Bundled)}
    for name in storage.bundles_of(request_id):
        if name not in known:
            sys.meta_path.append(Bundled(storage.dbfile, name))


@dataclass
class Bundled:
    """Finds, when nobody else does, the modules of one bundle. It is unpacked when the first of them is needed."""

    dbfile: str
    name: str
    roots: list[str] = field(default_factory=list)
    tops: frozenset[str] | None = None  # the first parts of its modules' names, once the list has been read

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of the bundle is; None for all others."""
        if path is not None:
            return None
        if self.tops is None:
            self._read()
        if name not in (self.tops or ()):
            return None
        folder = folder_of(os.path.expanduser(PLACE), bytes.fromhex(self.name))
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        if not is_whole(folder):
            unpack(self._archive(), folder, self.name)
        spec = PathFinder.find_spec(name, [os.path.join(folder, FILES) + root for root in self.roots], target)
        if spec is not None:
            warnings.warn(
                f"there is no module {name} here: it is taken from what was sent with the request, in {folder}",
                stacklevel=2,
            )
        return spec

    def _read(self) -> None:
        self.tops = frozenset()
        with tarfile.open(fileobj=io.BytesIO(self._archive()), mode="r:gz") as members:
            member = members.next()
            source = members.extractfile(member) if member is not None else None
            if source is None:
                return
            listed = json.loads(source.read())
        self.roots = listed["roots"]
        for path in listed["files"]:
            for root in self.roots:
                if path.startswith(f"{root}/") and path.endswith(SUFFIXES):
                    first, inside, _ = path[len(root) + 1 :].partition("/")
                    self.tops |= {first if inside else first.partition(".")[0]}

    def _archive(self) -> bytes:
        try:
            with Storage(self.dbfile) as storage:
                return storage.file(self.name)
        except StorageError as error:
            raise ImportError(f"what was sent with the request is not stored any more: {error}") from error
