"""The files of a worker: what its tasks name, by hashes. Functions and manifests are in memory, bundles on the disk."""

import os

from ..bundle import bundle_of, folder_of, is_whole, unpack
from ..link import Over
from ..wire.calls import is_for_all, manifest_in, names_in
from ..wire.frames import size_of
from ..wire.limits import KEPT_FUNCTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..wire.frames import Blob, Task


class Files(object):
    """What is here of what tasks need. function is the request's, directory the one of its array job."""

    def __init__(self, directory: str, function: "Blob") -> None:
        self.directory = directory
        self.manifest = manifest_in(function)  # nothing if it has none
        self.for_all = is_for_all(function)  # whatever calls name
        self.manifests = {self.manifest} if self.manifest else set()  # type: set[bytes]
        self.kept = {}  # type: dict[bytes, Blob]  # functions that calls name, and manifests; last used last
        self.bundles = set()  # type: set[bytes]
        self.naming = False  # have there been tasks that may name something?

    def note(self, tasks: "list[Task]") -> None:
        """Take note of what tasks name."""
        if self.for_all:
            return
        self.naming = self.naming or any(type(blob) is not bytes or blob[:1] == b"\0" for _, _, blob in tasks)
        if self.naming:
            self.manifests.update(filter(None, (manifest_in(blob) for _, _, blob in tasks)))

    def take(self, files: "Mapping[bytes, Blob]") -> None:
        """Take files that were asked for. One that is empty is nowhere."""
        for name, file in files.items():
            if name in self._bundles_of(self.kept):
                self._unpack(name, file)
            else:
                self.kept[name] = file

    def lacking(self, tasks: "list[Task]") -> "list[bytes]":
        """Return the hashes of what tasks need and that is not here: functions and manifests, or else bundles."""
        named = self.named_by(tasks)
        return sorted(named - set(self.kept)) or sorted(self._bundles_of(named) - self.bundles)

    def named_by(self, tasks: "list[Task]") -> "set[bytes]":
        """Return the hashes of the functions and manifests that tasks need, beside the request's own function."""
        found = {self.manifest} if self.manifest else set()
        return found.union(*(names_in(blob) for _, _, blob in tasks)) if self.naming else found

    def needed_by(self, tasks: "list[Task]") -> "dict[bytes, Blob]":
        """Return the functions and manifests that tasks need. Of the others, those stay that were needed last."""
        needed = self.named_by(tasks)
        for name in [name for name in self.kept if name in needed]:
            self.kept[name] = self.kept.pop(name)
        for name in list(self.kept)[: max(0, len(self.kept) - max(KEPT_FUNCTIONS, len(needed)))]:
            del self.kept[name]
            self.manifests.discard(name)
        return {name: self.kept[name] for name in needed}

    def bundle_for(self, call: "Blob" = b"") -> bytes:
        """Return the hash of the bundle that a call needs, or the function; nothing if it needs none."""
        manifest = (b"" if self.for_all else manifest_in(call)) or self.manifest
        return bundle_of(self.kept[manifest]) if manifest else b""

    def of_one_bundle(self, tasks: "list[Task]") -> "tuple[bytes, int]":
        """Return the hash of the first bundle that tasks need, and how many of them come before one of another."""
        if not self.manifests:
            return b"", len(tasks)
        bundles = [self.bundle_for(blob) for _, _, blob in tasks]
        first = next(filter(None, bundles), b"")
        others = (number for number, each in enumerate(bundles) if each not in (b"", first))
        return first, next(others, len(tasks))

    def _bundles_of(self, names: "Iterable[bytes]") -> "set[bytes]":
        """Return the hashes of the bundles in those of these files that are manifests; note which are here already."""
        known = self.manifests.intersection(names, self.kept)
        found = {bundle_of(self.kept[name]) for name in known} - {b""}
        for bundle in found - self.bundles:
            if is_whole(folder_of(self.directory, bundle)):
                self.bundles.add(bundle)
        return found

    def _unpack(self, bundle: bytes, archive: "Blob") -> None:
        """Put a bundle where all workers find it. If it is nowhere, the child will say so."""
        folder = folder_of(self.directory, bundle)
        if size_of(archive):
            try:
                os.makedirs(os.path.dirname(folder), exist_ok=True)
                unpack(archive, folder, bundle.hex())
            except OSError as error:
                text = "the user's own files cannot be unpacked in %s (%s): make room there"
                raise Over(text % (os.path.dirname(folder), error.strerror or error))
        self.bundles.add(bundle)
