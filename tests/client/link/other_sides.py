"""The other sides of links: a server, a request in its store, and the faults that a link may meet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sheepdog.client import IN_MEMORY
from sheepdog.server.certificate import ensure_certificate
from sheepdog.server.life import Server
from sheepdog.storage import Storage
from sheepdog.values.model import Kind
from sheepdog.values.serialisation import form
from tests.client.link.relay import Relay
from tests.client.shepherd import FakeServer
from tests.waiting import until


def large() -> bytes:
    """Return more than is kept in memory. It is no global: those travel with the functions of a module."""
    return b"0123456789abcdef" * (IN_MEMORY // 16) + b"more than is kept in memory"


class OtherSide:
    """A server with a request whose arguments are small, small and large; a kind of link adds the way to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.dbfile = directory / "database.sqlite"
        with Storage(self.dbfile) as storage:
            storage.initdb()
            arguments = [b"one", b"two", large(), b"four"]
            options = {"lease": 75.0}
            self.request = storage.new_request(b"function", large(), arguments, form=form(), options=options)
            self.token = storage.get_request(self.request).token
            ensure_certificate(storage)
        self.server = Server(dbfile=self.dbfile)
        self.server.start()
        until(lambda: self.server.running, "the server serves")

    def results(self) -> dict[int, bytes]:
        """Return what has been stored."""
        with Storage(self.dbfile) as storage:
            return dict(storage.results(self.request))

    def end(self) -> None:
        """End the request, as its user does."""
        with Storage(self.dbfile) as storage:
            storage.end_pending(self.request, Kind.CANCELLED, "cancelled")

    def close(self) -> None:
        self.server.stop()

    # What is another with each kind of link:

    @property
    def secret(self) -> dict[str, Any]:
        """What secret.json says."""
        raise NotImplementedError

    def go_away(self) -> None:
        """Let no call reach the server any more."""
        raise NotImplementedError

    def hold_replies(self) -> Callable[[], object]:
        """Let calls reach the server, and no reply the worker. Return what waits until there is one."""
        raise NotImplementedError

    def lose_reply(self) -> None:
        """Let the next call reach the server; its reply is lost."""
        raise NotImplementedError

    def mend(self) -> None:
        """Hold and lose nothing any more."""
        raise NotImplementedError

    def be_busy(self, seconds: int) -> dict[str, Any]:
        """Return the secret of a server that wants to be left alone for so long."""
        raise NotImplementedError

    def move(self) -> None:
        """Let the server go on at another place, and write where."""
        raise NotImplementedError


class HttpsSide(OtherSide):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.relays = [Relay(self.server.port)]
        self.busy: list[FakeServer] = []
        with Storage(self.dbfile) as storage:
            self.certificate = storage.get_setting("certificate")

    @property
    def secret(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "request": self.request,
            "token": self.token,
            "urls": [f"https://127.0.0.1:{self.relays[-1].port}"],
            "certificate": self.certificate,
        }

    def go_away(self) -> None:
        self.relays[-1].stop()
        self.relays[-1].fail("lose")  # on what is connected

    def hold_replies(self) -> Callable[[], object]:
        self.relays[-1].fail("hold")
        return self.relays[-1].failed.wait

    def lose_reply(self) -> None:
        self.relays[-1].fail("lose")

    def mend(self) -> None:
        self.relays[-1].fail("")

    def be_busy(self, seconds: int) -> dict[str, Any]:
        self.busy.append(FakeServer())
        self.busy[-1].status = (503, {"Retry-After": str(seconds)})
        return {**self.secret, "urls": [self.busy[-1].url], "certificate": self.busy[-1].certificate}

    def move(self) -> None:
        self.go_away()
        self.relays.append(Relay(self.server.port))
        (self.directory / "secret.json").write_text(json.dumps(self.secret))

    def close(self) -> None:
        for relay in self.relays:
            relay.fail("lose")
            relay.stop()
        for server in self.busy:
            server.close()
        super().close()
