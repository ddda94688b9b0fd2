"""Rings between a database's server and whoever adds to it or waits for it: a datagram on this machine's loopback.

    executor.py  -- "look": there are tasks -------->  the server's port, the setting "bell"
                 -- "listen": ring me, too --------->
                 <- "done": there was a commit -----

A ring is a hint. Who misses it looks a little later anyway, and who rings without cause makes somebody look in vain:
so it needs no secret.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

HERE = "127.0.0.1"
LOOK, LISTEN, DONE = b"look", b"listen", b"done"
REMEMBERED = 60.0  # seconds after which a listener must have said again that it listens
MAX_LISTENERS = 256


class Bell:
    """The end of a program that waits for a server. Any thread may call wake and look; one thread waits."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HERE, 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.listening = 0.0

    def wake(self) -> None:
        """Let wait return now."""
        self._send(b"", self.address)

    def look(self, port: int | None) -> None:
        """Let the server with this bell look into the database now."""
        if port:
            self._send(LOOK, (HERE, port))

    def wait(self, port: int | None, seconds: float | None) -> None:
        """Return when somebody rings, or after this time; None is without end."""
        now = time.monotonic()
        if port and now - self.listening > REMEMBERED / 3:
            self.listening = now
            self._send(LISTEN, (HERE, port))
        if select.select([self.socket], [], [], seconds)[0]:
            try:
                while True:
                    self.socket.recv(64)
            except OSError:  # no more of them; or the server's port is closed
                pass

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()

    def _send(self, what: bytes, address: tuple[str, int]) -> None:
        try:
            self.socket.sendto(what, address)
        except OSError:  # a hint was lost
            pass


class Doorbell(asyncio.DatagramProtocol):
    """The server's end. When somebody rings, look is called; not again before that look is over."""

    def __init__(self, look: Callable[[], Future[Any]]) -> None:
        self.look = look
        self.looking = self.again = False
        self.listeners: dict[tuple[str, int], float] = {}  # when they last said that they listen
        self.transport: Any = None

    @classmethod
    async def open(cls, look: Callable[[], Future[Any]]) -> Doorbell:
        """Begin to hear."""
        loop = asyncio.get_running_loop()
        _, bell = await loop.create_datagram_endpoint(lambda: cls(look), local_addr=(HERE, 0))
        return bell

    @property
    def port(self) -> int:
        """Where to ring."""
        return int(self.transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: Any) -> None:
        """Note the socket."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Somebody rings."""
        if data == LISTEN:
            self.listeners.pop(addr, None)
            self.listeners[addr] = time.monotonic()
            if len(self.listeners) > MAX_LISTENERS:
                del self.listeners[next(iter(self.listeners))]
        elif self.looking:
            self.again = True  # it may have come too late for that look
        else:
            self._look()

    def _look(self) -> None:
        self.looking, self.again = True, False
        asyncio.wrap_future(self.look()).add_done_callback(self._looked)

    def _looked(self, look: asyncio.Future[Any]) -> None:
        self.looking = False
        if not look.cancelled() and look.exception() is None and self.again:
            self._look()

    def tell(self) -> None:
        """Ring those who listen: something has been committed."""
        old = time.monotonic() - REMEMBERED
        for address, said in list(self.listeners.items()):
            if said < old:
                del self.listeners[address]
            else:
                self.transport.sendto(DONE, address)  # asyncio sends no empty one

    def close(self) -> None:
        """Hear no more."""
        self.transport.close()
