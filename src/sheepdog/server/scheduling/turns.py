"""Takes turns with the other servers of this user at asking a head node for its status.

A file for each head node, in the user's cache; its time of change is when somebody last asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from pathlib import Path

from ...errors import NotOwnFile
from ...values import account
from ...values.ownership import open_own


def take_turn(what: str, interval: float, directory: Path | None = None) -> float:
    """Return 0 if it is this server's turn, and note that; else the seconds after which to ask again."""
    if directory is None:
        directory = account.cache("turns")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / hashlib.sha256(what.encode()).hexdigest()[:16]
        with open(path, "a", opener=open_own) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = time.time()
            asked = os.fstat(file.fileno()).st_mtime if file.tell() else 0.0
            if 0 <= now - asked < interval:  # a clock that was set back does not count
                return interval - (now - asked)
            file.truncate(0)
            file.write(f"{what}\n")
    except (OSError, NotOwnFile):  # no cache: then each server asks for itself
        return 0.0
    return 0.0
