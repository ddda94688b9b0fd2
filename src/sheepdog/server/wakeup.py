"""How a server is woken by programs that add to its database, and wakes those that wait: see values/wakeup.py."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from ..values.wakeup import DONE, HERE, LISTEN, REMEMBERED

MAX_LISTENERS = 256


class WakeUps(asyncio.DatagramProtocol):
    """The server's socket. When a program says so, look is called; not again before that look is over."""

    def __init__(self, look: Callable[[], Future[Any]]) -> None:
        self.look = look
        self.looking = self.again = False
        self.listeners: dict[tuple[str, int], float] = {}  # when they last said that they listen
        self.transport: Any = None
        self.teller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.teller.setblocking(False)

    @classmethod
    async def open(cls, look: Callable[[], Future[Any]]) -> WakeUps:
        """Begin to hear."""
        loop = asyncio.get_running_loop()
        _, wakeups = await loop.create_datagram_endpoint(lambda: cls(look), local_addr=(HERE, 0))
        return wakeups

    @property
    def port(self) -> int:
        """Where it hears."""
        return int(self.transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: Any) -> None:
        """Note the socket."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Look, or note who listens."""
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
        """Wake those who listen: something has been committed. Any thread may call this, and none waits."""
        old = time.monotonic() - REMEMBERED
        for address, said in list(self.listeners.items()):
            if said < old:
                self.listeners.pop(address, None)
            else:
                with suppress(OSError):  # a hint is lost; or the socket has been closed
                    self.teller.sendto(DONE, address)

    def close(self) -> None:
        """Hear no more, and say nothing more."""
        self.transport.close()
        self.teller.close()
