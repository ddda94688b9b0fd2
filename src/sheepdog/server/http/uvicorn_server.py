"""Accepts connections, bounds their number, and drops the slow; uvicorn speaks HTTP on them.

When strangers have all their places, the next one waits; when all connections have shown a token, the newcomer is told
to come again.

All that leans on uvicorn's inner names is here and in connections.py; tests/server/http/test_inner_names.py lists them.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from .connections import HEAD_SECONDS, MAX_HEAD, MAX_STRANGERS, Connection, Connections
from .memory import give_back
from .tls import BUFFER, open_tls

END_SECONDS = 4.0  # for the calls under way, when the server ends
IDLE_SECONDS = 300  # a kept connection; longer than the longest heartbeat
MAX_CONNECTIONS = 4096
SPARE_CONNECTIONS = 64  # that are accepted to be told that there are too many
MANY_GONE = 64  # connections that have ended: what they took of memory is given back
OTHER_FILES = 512  # descriptors for everything else: the database, bodies


def room(files: int) -> int:
    """Return how many connections there may be where so many files may be open."""
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(files - OTHER_FILES, files // 2))


class Acceptor(uvicorn.Server):
    """Accepts connections, as many as there are descriptors for."""

    def __init__(self, app: Any, listener: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEAD,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=int(END_SECONDS) + 2,
            )
        )
        self.listener = listener
        self.context = context
        self.buffer = bytearray(BUFFER)
        self.known = Connections(room(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
        self.loops: list[asyncio.Task[None]] = []

    def end(self) -> None:
        """Let serve() return, when the calls under way have ended."""
        self.should_exit = True

    # --- what uvicorn does otherwise

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would raise them again and skip our own end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Begin to accept. uvicorn's own way gives no deadline before the first call, and no limit."""
        self.loop = asyncio.get_running_loop()
        self.listener.setblocking(False)
        self.servers = []
        self.loops = [self.loop.create_task(self._accept()), self.loop.create_task(self._sweep())]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let the calls under way end."""
        self.loop.remove_reader(self.listener)  # else one that is just coming meets a cancelled accept
        for each in self.loops:
            each.cancel()
        self.listener.close()
        self._drop(lambda connection: connection.opening is not None)
        self.loop.call_later(END_SECONDS, self._drop, lambda _: True)
        await super().shutdown(sockets)

    # --- the loops

    async def _accept(self) -> None:
        while True:
            try:
                accepted, _ = await self.loop.sock_accept(self.listener)
            except OSError:  # no descriptor is left, or the other end has gone already
                await asyncio.sleep(0.1)
                continue
            self._tidy(MAX_STRANGERS)
            try:
                self._admit(accepted, not await self.known.make_room())
            except BaseException:
                accepted.close()
                raise

    def _admit(self, accepted: socket.socket, surplus: bool) -> None:
        known = self.known
        if surplus and len(known.surplus) >= SPARE_CONNECTIONS:
            accepted.close()
            return
        # asyncio does so only if it sees that the protocol is TCP, which some listening sockets do not say.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self.config, self.server_state, known, surplus)
        for ones in [known.surplus] if surplus else [known.here, known.strangers]:
            ones[connection] = None
        connection.opening = self.loop.create_task(self._open(connection, accepted))

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await open_tls(connection, accepted, self.context, HEAD_SECONDS, self.buffer)
            connection.opening = None
        except OSError:  # it spoke no TLS, or left, or was too slow
            self.known.forget(connection)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, HEAD_SECONDS / 10))
            self._drop(Connection.late)
            self._tidy(MANY_GONE)

    def _tidy(self, many: int) -> None:
        """Give back what so many connections took that have ended."""
        if self.known.gone >= many:
            self.known.gone = 0
            give_back()

    def _drop(self, which: Callable[[Connection], bool]) -> None:
        for connection in [one for one in self.known if which(one)]:
            connection.drop()
