"""Stamps: what tells that a file is as it was, so that what was made of it need not be made again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

SETTLED = 2.0  # seconds: a file that was changed more recently may change again and keep its time, as some disks count

Made = TypeVar("Made")
Stamp = tuple[int, int, int, int]


def stamp_of(found: os.stat_result) -> Stamp:
    """Return what changes when a file or a folder does."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def is_settled(found: os.stat_result) -> bool:
    """Tell whether the next change of a file is sure to change its stamp, too."""
    return time.time() - max(found.st_mtime, found.st_ctime) > SETTLED


class Kept(Generic[Made]):
    """What was made of files, by path, while they stay as they were."""

    def __init__(self, make: Callable[[str], Made]) -> None:
        self._make = make
        self._made: dict[str, tuple[Stamp, Made]] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> Made:
        """Return what is made of a file. OSError if it cannot be read."""
        found = os.stat(path)
        stamp = stamp_of(found)
        with self._lock:
            kept = self._made.get(path)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        made = self._make(path)
        if is_settled(found):
            with self._lock:
                self._made[path] = stamp, made
        return made
