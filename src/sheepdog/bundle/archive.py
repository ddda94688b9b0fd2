"""Archives: files of this machine in one, known by its content. Over there each lies below it as it does here below /.

    bundle.json                        what is in it: see Contents.listed
    files/home/anna/sim/__init__.py    what is /home/anna/sim/__init__.py here

So what finds its way from one file to another finds it there, too, and a traceback names the user's own file when what
is above is taken off. It is a tar, compressed by gzip: any shell unpacks it, where there is no Python yet.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ..client.bundle import FILES, LIST, TIME
from ..errors import FilesChanged
from .facts import Fact, Why
from .stamps import Kept, is_settled

COMPRESSION = 6  # measured over our own source: 1 makes a third more bytes in half the time
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file: its SHA-256, how many bytes, and whether it is a program.

    content is there if the file may be being written still, so that what is packed is what was listed.
    """

    hash: str
    size: int
    runs: bool
    content: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Contents:
    """The files of an archive, by their path here, and the folders and zip files among them that are for sys.path."""

    files: dict[str, Content]
    roots: tuple[str, ...]

    @cached_property
    def name(self) -> str:
        """What these contents are known by: for the same files in the same places, the same."""
        return hashlib.sha256(self.listed()).hexdigest()

    @cached_property
    def places(self) -> frozenset[str]:
        """The files, and the folders that they are in up to those for sys.path."""
        places = {*self.files, *self.roots}
        for path in self.files:
            folder = os.path.dirname(path)
            while folder not in places and any(folder.startswith(root) for root in self.roots):
                places.add(folder)
                folder = os.path.dirname(folder)
        return frozenset(places)

    def listed(self) -> bytes:
        """Return the list of what is in the archive."""
        files = {path: [each.hash, each.size, each.runs] for path, each in sorted(self.files.items())}
        return json.dumps({"format": FORMAT, "roots": self.roots, "files": files}, separators=(",", ":")).encode()


def read(paths: Iterable[str], roots: Iterable[str]) -> tuple[Contents, list[Fact]]:
    """Return what is in these files, and which of them cannot be read."""
    files, facts = {}, []
    for path in sorted(set(paths)):
        try:
            files[path] = contents.get(path)
        except OSError as error:
            facts.append(Fact(Why.UNREADABLE, path, more=error.strerror or str(error)))
    return Contents(files, tuple(roots)), facts


def pack(contents: Contents) -> bytes:
    """Return the archive. Raises FilesChanged if a file is not what it was when it was listed."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", COMPRESSION, buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        _add(archive, LIST, contents.listed(), False)
        for path, each in sorted(contents.files.items()):
            try:
                content = each.content if each.content is not None else _read(path)
            except OSError as error:
                raise FilesChanged(f"{path} was to travel, and cannot be read any more: {error}") from error
            if hashlib.sha256(content).hexdigest() != each.hash:
                raise FilesChanged(f"{path} changes while it is packed: try again when it is written")
            _add(archive, FILES + path, content, each.runs)
    return buffer.getvalue()


def unpacked(archive: bytes) -> Contents:
    """Return what is in an archive, with the content of each file."""
    files: dict[str, Content] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
        sources = {member.name: source.read() for member in members if (source := members.extractfile(member))}
    listed = json.loads(sources[LIST])
    for path, (digest, size, runs) in listed["files"].items():
        files[path] = Content(digest, size, runs, sources[FILES + path])
    return Contents(files, tuple(listed["roots"]))


def _add(archive: tarfile.TarFile, name: str, content: bytes, runs: bool) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), TIME, 0o555 if runs else 0o444
    archive.addfile(member, io.BytesIO(content))


def _content(path: str) -> Content:
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        runs = bool(found.st_mode & 0o100)
        if not is_settled(found):
            content = file.read()
            return Content(hashlib.sha256(content).hexdigest(), len(content), runs, content)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Content(digest, file.tell(), runs)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


contents: Kept[Content] = Kept(_content)
