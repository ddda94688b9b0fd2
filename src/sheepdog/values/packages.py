"""Packages: what a request needs that is installed here, and is to be there, too."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """An installed package that a request imports: by which name, what was installed here, and by which file.

    modules: of it, those that are needed for certain. certain: it is needed; else it may never be. elsewhere: it is
    needed where the Python is another than here, on which nothing stands in for a module that cannot be imported.
    """

    name: str
    distribution: str
    version: str
    certain: bool
    by: str = ""
    modules: tuple[str, ...] = ()
    elsewhere: bool = False

    @property
    def requirement(self) -> str:
        """What an installer calls it."""
        return f"{self.distribution or self.name}=={self.version}" if self.version else self.distribution or self.name

    @property
    def row(self) -> tuple[object, ...]:
        """What is stored."""
        return *self.told(False), self.elsewhere

    def told(self, other: bool) -> tuple[object, ...]:
        """Return what a worker is told; other: its Python is another than here."""
        certain = self.certain or (other and self.elsewhere)
        return self.name, self.distribution, self.version, certain, self.by, list(self.modules)


def stored(wanted: Iterable[Wanted]) -> bytes:
    """Return what is stored of the packages that a request needs; nothing if it needs none."""
    rows = [each.row for each in wanted]
    return json.dumps(rows, separators=(",", ":")).encode() if rows else b""


def read(data: bytes) -> tuple[Wanted, ...]:
    """Return what was stored so."""
    rows = json.loads(data or b"[]")
    return tuple(
        Wanted(name, distribution, version, certain, by, tuple(inside), any(elsewhere))
        for name, distribution, version, certain, by, inside, *elsewhere in rows
    )
