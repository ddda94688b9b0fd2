"""The connections of the server: accepts them, bounds their number, drops the slow.

                     a head has come         the service decides
    HEAD  ------------------------> WORK <-------------------------> BODY
      ^                              |                                 |
      +-- IDLE <-- the reply is sent +                                 |
      |                                                                |
      +---- no head in HEAD_SECONDS, or too few bytes in PACE_SECONDS -+--> dropped

A connection that has not shown a token yet is a stranger. When there are too many, the oldest stranger makes room; when
all have shown one, the newcomer is told to come again.
"""

from __future__ import annotations

import asyncio
import enum
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    Http = Any
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as Http

HEAD_SECONDS = 30.0  # from connecting, or from the first byte of a later call, to the end of the call's head
MAX_HEAD = 16 << 10
PACE_SECONDS = 60.0  # in every so many seconds ...
PACE = 8 << 10  # ... so many bytes a second of a body must come, and some of a reply go
CLOSE_SECONDS = 5.0  # for the other end to agree that a connection ends
END_SECONDS = 4.0  # for the calls under way, when the server ends
IDLE_SECONDS = 300  # a kept connection; longer than the longest heartbeat
MAX_CONNECTIONS = 4096
SPARE_CONNECTIONS = 64  # that are accepted to be told that there are too many
OTHER_FILES = 512  # descriptors for everything else: the database, bodies
READ_AHEAD = 64 << 10  # bytes that TLS takes in while nobody reads


def room(files: int) -> int:
    """Return how many connections there may be where so many files may be open."""
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(files - OTHER_FILES, files // 2))


class Stage(enum.Enum):
    """What a connection is waiting for."""

    HEAD = enum.auto()
    BODY = enum.auto()
    WORK = enum.auto()
    IDLE = enum.auto()


class Connection(Http):  # type: ignore[misc]
    """One connection, as uvicorn has it, with deadlines."""

    def __init__(self, gate: Gate, surplus: bool) -> None:
        self.gate = gate
        self.surplus = surplus
        """There are too many: all it gets is a sentence."""
        self.welcome: asyncio.Task[None] | None = None
        self.stage = Stage.HEAD
        self.since = gate.loop.time()
        self.moved = 0  # bytes since then
        self.calls = 0
        self.stalled: tuple[float, int] | None = None  # when the other end stopped reading, with how much unsent
        self.flows = asyncio.Event()
        super().__init__(gate.config, gate.state, {"connection": self}, gate.loop)

    # --- what the loop says

    def connection_made(self, transport: Any) -> None:
        """Note that TLS stands."""
        transport.set_read_buffer_limits(READ_AHEAD)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is over."""
        self.gate.forget(self)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, of a head only so many."""
        if self.stage is Stage.IDLE:
            self.enter(Stage.HEAD)
        if self.stage is Stage.HEAD and self.moved > MAX_HEAD:
            self.drop()
            return
        self.moved += len(data)
        super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the other end does not read."""
        self.stalled = self.loop.time(), self.transport.get_write_buffer_size()
        self.flows.clear()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it reads again."""
        self.stalled = None
        self.flows.set()
        super().resume_writing()

    def shutdown(self) -> None:
        """End after the call under way, or at once if there is none."""
        if self.stage in (Stage.HEAD, Stage.IDLE):
            self.drop()
        else:
            super().shutdown()

    # --- what the door says

    def enter(self, stage: Stage) -> None:
        """Wait for something else from now on."""
        self.stage, self.since, self.moved = stage, self.loop.time(), 0

    def begin(self) -> int:
        """Note that a call is under way; return its number."""
        self.enter(Stage.WORK)
        self.calls += 1
        return self.calls

    def finish(self, number: int) -> None:
        """Note that a call is over, unless the next one has begun already."""
        if number == self.calls:
            self.enter(Stage.IDLE)

    async def sent(self) -> None:
        """Wait until little is left to be sent."""
        if self.stalled is not None:
            await self.flows.wait()

    def trust(self) -> None:
        """Note that it has shown a right token."""
        self.gate.strangers.pop(self, None)

    def drop(self) -> None:
        """End it, whatever is under way."""
        self.gate.forget(self)
        if self.welcome is not None:
            self.welcome.cancel()
        elif self.transport is not None:
            with suppress(AttributeError):  # before Python 3.11.5, one that has just ended cannot be ended
                self.transport.abort()

    def late(self) -> bool:
        """Tell whether it has missed its deadline."""
        now = self.loop.time()
        if self.stage is Stage.HEAD and now - self.since > HEAD_SECONDS:
            return True
        if self.stage is Stage.BODY and now - self.since > PACE_SECONDS:
            if self.moved < PACE * PACE_SECONDS:
                return True
            self.enter(Stage.BODY)
        if self.stalled is not None and now - self.stalled[0] > PACE_SECONDS:
            unsent = self.transport.get_write_buffer_size()
            if unsent >= self.stalled[1]:
                return True
            self.stalled = now, unsent
        return False


class Gate(uvicorn.Server):
    """Accepts connections, as many as there are descriptors for. uvicorn speaks HTTP on them."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(config)
        self.state = self.server_state
        self.listener = listener
        self.context = context
        self.here: dict[Connection, None] = {}
        self.turned_away: dict[Connection, None] = {}
        self.strangers: dict[Connection, None] = {}  # the oldest first
        self.most = room(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.chores: list[asyncio.Task[None]] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would raise them again and skip our own end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Begin to accept. uvicorn's own way gives no deadline before the first call, and no limit."""
        self.loop = asyncio.get_running_loop()
        self.listener.setblocking(False)
        self.servers = []
        self.chores = [self.loop.create_task(self._accept()), self.loop.create_task(self._sweep())]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let the calls under way end."""
        self.loop.remove_reader(self.listener)  # else one that is just coming meets a cancelled accept
        for chore in self.chores:
            chore.cancel()
        self.listener.close()
        self._drop(lambda connection: connection.welcome is not None)
        self.loop.call_later(END_SECONDS, self._drop, lambda _: True)
        await super().shutdown(sockets)

    async def _accept(self) -> None:
        while True:
            try:
                accepted, _ = await self.loop.sock_accept(self.listener)
            except OSError:  # no descriptor is left, or the other end has gone already
                await asyncio.sleep(0.1)
                continue
            crowded = len(self.here) >= self.most
            if crowded and self.strangers:
                next(iter(self.strangers)).drop()
                crowded = False
            if crowded and len(self.turned_away) >= SPARE_CONNECTIONS:
                accepted.close()
                continue
            # asyncio does so only if it sees that the protocol is TCP, which some listening sockets do not say.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, crowded)
            for ones in [self.turned_away] if crowded else [self.here, self.strangers]:
                ones[connection] = None
            connection.welcome = self.loop.create_task(self._welcome(connection, accepted))

    async def _welcome(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self.context,
                ssl_handshake_timeout=HEAD_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
            connection.welcome = None
        except OSError:  # it spoke no TLS, or left, or was too slow
            self.forget(connection)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, HEAD_SECONDS / 10))
            self._drop(Connection.late)

    def _drop(self, which: Callable[[Connection], bool]) -> None:
        for connection in [one for one in [*self.here, *self.turned_away] if which(one)]:
            connection.drop()

    def forget(self, connection: Connection) -> None:
        """Take a connection off the lists."""
        for ones in (self.here, self.strangers, self.turned_away):
            ones.pop(connection, None)
