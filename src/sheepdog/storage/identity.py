"""Whose a database is: the account, the machine and the file that it was made as. A copy says the same, and is another.

A file that was moved within its file system is still the same one.
"""

from __future__ import annotations

import functools
import hmac
import json
import os
import secrets
from contextlib import suppress
from typing import Any, NamedTuple

from ..values import account


class Identity(NamedTuple):
    """What a database says of itself."""

    id: str
    """Random: requests name it."""
    path: str
    device: int
    inode: int
    machine: str
    proof: str = ""
    """What only the account's key can say of all the others."""

    @classmethod
    def make(cls, dbfile: str) -> Identity:
        """Return the identity of a file that becomes this account's, on this machine."""
        key, found = account.made_key(), os.stat(dbfile)
        name = secrets.token_hex(16)
        made = cls(name, dbfile, found.st_dev, found.st_ino, _machine(key))
        return made._replace(proof=made._proof(key))

    @staticmethod
    @functools.lru_cache(maxsize=16)
    def read(stored: Any) -> Identity | None:
        """Return what is stored of one; None if nothing is, or nothing that could be one."""
        with suppress(ValueError, TypeError, RecursionError):
            return Identity(**json.loads(stored))
        return None

    def stored(self) -> str:
        """Return what the database keeps."""
        return json.dumps(self._asdict())

    def _proof(self, key: bytes) -> str:
        return account.digest(key, *(str(value) for name, value in self._asdict().items() if name != "proof"))

    @property
    def of_this_account(self) -> bool:
        """Whether this account made it, on whatever machine."""
        key = account.key()
        return key is not None and hmac.compare_digest(self._proof(key), str(self.proof))

    def fault(self, dbfile: str) -> str:
        """Return why the file is not the one that this account made on this machine; empty if it is."""
        key = account.key()
        if key is None or not self.of_this_account:
            return "was made by another account"
        if self.machine != _machine(key):
            return "was made on another machine"
        if not self._is(dbfile):
            return f"is a copy of the one that was made as {self.path}"
        return ""

    def is_also(self, dbfile: str) -> bool:
        """Tell whether this is the same file by another name (a hard link): SQLite would keep a log for each."""
        with suppress(OSError):
            return os.stat(dbfile).st_nlink > 1 and dbfile != self.path and os.path.samefile(dbfile, self.path)
        return False

    def _is(self, dbfile: str) -> bool:
        found = os.stat(dbfile)
        if found.st_ino != self.inode:
            return False
        if dbfile == self.path:  # whatever the number of the device: it may be another after the next start
            return True
        if found.st_dev != self.device:
            return False
        with suppress(OSError):  # moved, or called by another name of its directory; but not a second name of the file
            return found.st_nlink == 1 or not os.path.samestat(found, os.stat(self.path))
        return True


def _machine(key: bytes) -> str:
    return account.digest(key, "machine", account.machine())[:16]
