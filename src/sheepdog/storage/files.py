"""Files: a request names them by what is in them. Nothing fills them yet: own code is to travel so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ..errors import StorageError
from .file import File


class Files(File):
    """Files, each kept once, and the requests that name them."""

    def add_file(self, content: bytes) -> str:
        """Store a file, unless it is there, and return its hash. It stays while a request names it."""
        name = hashlib.sha256(content).hexdigest()
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO file VALUES (?, ?, ?)", (name, len(content), content))
        return name

    def file(self, hash: str) -> bytes:
        """Return what is in a file."""
        for (content,) in self._query("SELECT content FROM file WHERE hash = ?", hash):
            return bytes(content)
        raise StorageError(f"there is no file {hash!r} in {self.dbfile}")

    def name_files(self, request_id: int, files: Mapping[str, str]) -> None:
        """Note the files of a request: the hash of each, by the path that it is to have."""
        with self.transaction():
            rows = ((request_id, path, name) for path, name in files.items())
            self.db.executemany("INSERT OR REPLACE INTO request_file VALUES (?, ?, ?)", rows)

    def files_of(self, request_id: int) -> dict[str, str]:
        """Return the files of a request: the hash of each, by its path."""
        return dict(self._query("SELECT path, hash FROM request_file WHERE request = ? ORDER BY path", request_id))

    def _remove_files(self, request_id: int) -> None:
        """Forget which files a request names, and drop those that no other names."""
        named = {*self.files_of(request_id).values()}
        self.db.execute("DELETE FROM request_file WHERE request = ?", (request_id,))
        unnamed = "DELETE FROM file WHERE hash = ? AND hash NOT IN (SELECT hash FROM request_file)"
        self.db.executemany(unnamed, ((name,) for name in named))
