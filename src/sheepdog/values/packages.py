"""Packages: what a request needs that is installed here, and is to be there, too."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """An installed package that a request imports: by which name, what was installed here, and by which file.

    modules: of it, those that are needed for certain. certain: it is needed; else it may never be.
    """

    name: str
    distribution: str
    version: str
    certain: bool
    by: str = ""
    modules: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """What an installer calls it."""
        return f"{self.distribution or self.name}=={self.version}" if self.version else self.distribution or self.name

    @property
    def row(self) -> tuple[object, ...]:
        """What is stored, and what a worker is told."""
        return self.name, self.distribution, self.version, self.certain, self.by, list(self.modules)


def stored(wanted: Iterable[Wanted]) -> bytes:
    """Return what is stored of the packages that a request needs; nothing if it needs none."""
    rows = [each.row for each in wanted]
    return json.dumps(rows, separators=(",", ":")).encode() if rows else b""


def read(data: bytes) -> tuple[Wanted, ...]:
    """Return what was stored so."""
    rows = json.loads(data or b"[]")
    return tuple(Wanted(name, *about, tuple(inside)) for name, *about, inside in rows)  # type: ignore[call-arg]
