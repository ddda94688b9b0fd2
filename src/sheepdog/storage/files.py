"""Files: a request names them by what is in them. They are the functions of an executor's calls."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from ..client import IN_MEMORY
from ..client.wire.calls import HEAD, MANIFEST, MOST_HEAD, manifest_in, names_in
from ..errors import StorageError
from ..values.files import BROUGHT, WANTED, made
from ..values.files import Files as Made
from ..values.model import StoredBlob
from .file import File
from .schema import SPAN

BUNDLES = "bundles/"  # begins the path of each


def hash_of(path: str) -> str:
    """Return the hash of a file whose path ends with it."""
    return path.rpartition("/")[2]


class Files(File):
    """Files, each kept once, and the requests that name them."""

    def add_file(self, content: bytes, name: str = "") -> str:
        """Store a file, unless it is there, and return its hash. It stays while a request names it.

        name is the hash of what it is known by, if that is not all of it: of an archive, of what is in it.
        """
        name = name or hashlib.sha256(content).hexdigest()
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO file VALUES (?, ?, ?)", (name, len(content), content))
        return name

    def has_file(self, name: str) -> bool:
        """Tell whether a file is stored."""
        return any(self._query("SELECT 1 FROM file WHERE hash = ?", name))

    def made(self, files: Made) -> Made:
        """Return files of which those have been made that are not here: that may take a while."""
        return {path: make if self.has_file(hash_of(path)) else made(make) for path, make in files.items()}

    def add_files(self, request_id: int, files: Made) -> None:
        """Have a request name files, and store those that are not here."""
        with self.transaction():
            for path, make in files.items():
                if not self.has_file(hash_of(path)):
                    self.add_file(make(), hash_of(path))
            self.name_files(request_id, {path: hash_of(path) for path in files})

    def bundles_of(self, request_id: int) -> list[str]:
        """Return the hashes of the bundles that a request names."""
        return [name for path, name in self.files_of(request_id).items() if path.startswith(BUNDLES)]

    def wanted_of(self, request_id: int) -> list[str]:
        """Return the hash of a request's list of installed packages, if it has one."""
        return [name for path, name in self.files_of(request_id).items() if path.startswith(WANTED)]

    def wanted(self, request_id: int) -> bytes:
        """Return a request's list of installed packages; nothing if it has none."""
        return b"".join(map(self.file, self.wanted_of(request_id)[:1]))

    def name_brought(self, request_id: int, paths: Iterable[str]) -> None:
        """Note the folders of packages that a request has brought along; the store has not what is in them."""
        with self.transaction():
            for path in self.brought(request_id):
                self.db.execute("DELETE FROM request_file WHERE request = ? AND path = ?", (request_id, path))
            self.name_files(request_id, {path: hash_of(path) for path in paths})

    def brought(self, request_id: int) -> list[str]:
        """Return the folders of packages that a request has brought along, below ssh_dir."""
        return [path for path in self.files_of(request_id) if path.startswith(BROUGHT)]

    def uses(self, request_id: int) -> list[str]:
        """Return the folders below ssh_dir that the workers of a request need."""
        return [path for path in self.files_of(request_id) if path.startswith((BUNDLES, BROUGHT))]

    def file(self, hash: str) -> bytes:
        """Return what is in a file."""
        for (content,) in self._query("SELECT content FROM file WHERE hash = ?", hash):
            return bytes(content)
        raise StorageError(f"there is no file {hash!r} in {self.dbfile}")

    def read_files(self, request_id: int, hashes: Iterable[str], limit: int) -> list[tuple[str, bytes | StoredBlob]]:
        """Return the files of these hashes that the request names, until there are more bytes than the limit."""
        found: list[tuple[str, bytes | StoredBlob]] = []
        size = 0
        named = {*self.files_of(request_id).values()}
        for name in hashes:
            if name in named and size <= limit:
                [(row, length)] = self._query("SELECT rowid, size FROM file WHERE hash = ?", name)
                size += length
                large = length > IN_MEMORY
                found.append((name, StoredBlob("file", "content", row, length) if large else self.file(name)))
        return found

    def name_files(self, request_id: int, files: Mapping[str, str]) -> None:
        """Note the files of a request: the hash of each, by the path that it is to have."""
        with self.transaction():
            rows = ((request_id, path, name) for path, name in files.items())
            self.db.executemany("INSERT OR REPLACE INTO request_file VALUES (?, ?, ?)", rows)

    def files_of(self, request_id: int) -> dict[str, str]:
        """Return the files of a request: the hash of each, by its path."""
        return dict(self._query("SELECT path, hash FROM request_file WHERE request = ? ORDER BY path", request_id))

    def named_by_tasks(self, request_id: int) -> set[bytes]:
        """Return the hashes that the calls name which are stored of a request, each a task."""
        query = "SELECT DISTINCT substr(args, 1, ?) FROM task WHERE id BETWEEN ? AND ?"
        heads = self._query(query, MOST_HEAD, request_id * SPAN, request_id * SPAN + SPAN - 1)
        return {name for (head,) in heads for name in names_in(bytes(head))}

    def manifests_of(self, request_id: int) -> list[bytes]:
        """Return the hashes of the manifests that the stored tasks name, in the order in which they came to be."""
        query = (
            "SELECT substr(args, 1, ?) FROM task WHERE id BETWEEN ? AND ? AND substr(args, 1, 2) = ?"
            " GROUP BY 1 ORDER BY max(id)"
        )
        heads = self._query(query, HEAD, request_id * SPAN, request_id * SPAN + SPAN - 1, MANIFEST)
        return [manifest_in(bytes(head)) for (head,) in heads]

    def forget_files(self, request_id: int, hashes: Iterable[str]) -> None:
        """Have a request name these files no more; drop those that no other names."""
        with self.transaction():
            for name in hashes:
                self.db.execute("DELETE FROM request_file WHERE request = ? AND hash = ?", (request_id, name))
                self._drop_file(name)

    def _remove_files(self, request_id: int) -> None:
        """Forget which files a request names, and drop those that no other names."""
        named = {*self.files_of(request_id).values()}
        self.db.execute("DELETE FROM request_file WHERE request = ?", (request_id,))
        for name in named:
            self._drop_file(name)

    def _drop_file(self, name: str) -> None:
        self.db.execute("DELETE FROM file WHERE hash = ? AND hash NOT IN (SELECT hash FROM request_file)", (name,))
