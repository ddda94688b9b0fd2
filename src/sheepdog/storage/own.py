"""What is this account's own of a database: nothing is run for a copy, or for what another account has stored."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable, Iterable

from ..errors import NotOwnRequest, StorageError
from ..values import account
from .file import IDENTITY
from .identity import Identity
from .rows import Rows

SERVERS = ("port", "port_wanted", "address", "certificate", "key", "password", "bell")
"""The settings of a database's server. That of a copy must not listen, or answer, as the original's."""


class Own(Rows):
    """The file with its identity."""

    @property
    def identity(self) -> Identity | None:
        """What the database says whose it is; None if it says nothing."""
        return Identity.read(self.get_setting(IDENTITY))

    def signer(self) -> Callable[..., str]:
        """Return what says of some words what only this account can say of them, and of this file alone.

        It says nothing without an identity. That proves no more than the file: what others have put into a copy comes
        home with it.
        """
        identity, key = self.identity, account.key()
        return functools.partial(account.digest, key, identity.id) if identity and key else lambda *_: ""

    @property
    def fault(self) -> str:
        """Why this is not the file that this account made on this machine; empty if it is."""
        if identity := self.identity:
            return identity.fault(self.dbfile)
        return "does not say who made it"

    def require_made_here(self) -> None:
        """Raise NotOwnRequest unless this account made this file on this machine."""
        if fault := self.fault:
            raise NotOwnRequest(f"{self.dbfile} {fault}: {self._hint}")

    @property
    def _hint(self) -> str:
        return (
            "what is in it can be read, but nothing of it is run, submitted, cancelled or cleared up. Only if nobody "
            f"goes on with it elsewhere, and you trust it, sheepdog.take_over({self.dbfile!r}) makes it yours"
        )

    def _settle(self, again: bool = False) -> None:
        """Make this file this account's, on this machine, unless it is so already.

        The server of a copy is another than the original's; but if it takes the original's place (again), the same one.
        """
        identity = self.identity
        if identity is None or identity.fault(self.dbfile):
            if identity and identity.is_also(self.dbfile):
                raise StorageError(
                    f"{self.dbfile} is another name (a hard link) of {identity.path}, and two names in use damage a "
                    "database: use that one, or make a copy with cp"
                )
            if not (again and identity and identity.of_this_account):
                self.db.execute(f"DELETE FROM setting WHERE name IN ({', '.join('?' * len(SERVERS))})", SERVERS)  # noqa: S608
            identity = Identity.make(self.dbfile)
            self.set_settings(**{IDENTITY: identity.stored()})


def is_signed(signature: object, wanted: str) -> bool:
    """Tell whether a signature is the one that is wanted; an empty one is none."""
    return bool(wanted) and hmac.compare_digest(wanted.encode(), str(signature).encode("utf-8", "replace"))


def digest_of(*parts: Iterable[bytes]) -> str:
    """Return the digest of what a request calls: its form, the function, the namespace, each in pieces."""
    whole = hashlib.sha256()
    for part in parts:
        each = hashlib.sha256()
        for piece in part:
            each.update(piece)
        whole.update(each.digest())
    return whole.hexdigest()


def mark(sign: Callable[..., str], function: str, request_id: int, runs: bool, token: str, options: str) -> str:
    """Return what is stored of a request that is signed: the digest of what it calls, and the signature."""
    return f"{function}:{sign('request', function, str(request_id), str(int(runs)), token, options)}"


def is_marked(sign: Callable[..., str], request_id: int, marked: str, runs: int, token: str, options: str) -> bool:
    """Tell whether a request is signed as it is."""
    function, _, signature = str(marked).partition(":")
    wanted = mark(sign, function, request_id, bool(runs), str(token), str(options))
    return is_signed(signature, wanted.partition(":")[2])
