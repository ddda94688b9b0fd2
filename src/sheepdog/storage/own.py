"""What is this account's own of a database: nothing is run for a copy, or for what another account has stored."""

from __future__ import annotations

from ..errors import NotOwnRequest
from .file import IDENTITY, File
from .identity import Identity

SERVERS = ("port", "port_wanted", "address", "certificate", "key", "password", "bell")
"""The settings of a database's server. That of a copy must not listen, or answer, as the original's."""


class Own(File):
    """The file with its identity."""

    @property
    def identity(self) -> Identity | None:
        """What the database says whose it is; None if it says nothing."""
        return Identity.read(self.get_setting(IDENTITY))

    @property
    def home(self) -> str:
        """What the requests name that were made in this file; empty if it has no identity."""
        return identity.id if (identity := self.identity) else ""

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

    def _settle(self, again: bool = False) -> str:
        """Make this file this account's, on this machine, unless it is so already. Return its home.

        The server of a copy is another than the original's; but if it takes the original's place (again), the same one.
        """
        identity = self.identity
        if identity is None or identity.fault(self.dbfile):
            if not (again and identity and identity.of_this_account):
                self.db.execute(f"DELETE FROM setting WHERE name IN ({', '.join('?' * len(SERVERS))})", SERVERS)  # noqa: S608
            identity = Identity.make(self.dbfile)
            self.set_settings(**{IDENTITY: identity.stored()})
        return identity.id
