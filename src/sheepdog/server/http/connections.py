"""A connection of the server: what it waits for, and until when.

                     a head has come         the service decides
    HEAD  ------------------------> WORK <-------------------------> BODY
      ^                              |                                 |
      +-- IDLE <-- the reply is sent +                                 |
      |                                                                |
      +---- no head in HEAD_SECONDS, or too few bytes in PACE_SECONDS -+--> dropped

A connection that has not shown a token yet is a stranger. There are few places for these, and those that have shown one
never make room for them.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

if TYPE_CHECKING:
    Http = Any
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as Http

HEAD_SECONDS = 30.0  # from connecting, or from the first byte of a later call, to the end of the call's head
MAX_HEAD = 16 << 10
MAX_STRANGERS = 256
GRACE_SECONDS = 2.0  # that a stranger has to show a token while others wait for its place, and since another has
PACE_SECONDS = 60.0  # in every so many seconds ...
PACE = 8 << 10  # ... so many bytes a second of a body must come, and some of a reply go
READ_AHEAD = 64 << 10  # bytes that TLS takes in while nobody reads
TOGETHER = 64 << 10  # bytes of a reply that are copied behind its head


class Stage(enum.Enum):
    """What a connection is waiting for."""

    HEAD = enum.auto()
    BODY = enum.auto()
    WORK = enum.auto()
    IDLE = enum.auto()


class Together:
    """A transport that sends the head of a reply with what follows it: one TLS record, and the worker wakes once."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes, but a head only with the next ones, or soon."""
        if not self.head and data.startswith(b"HTTP/"):
            self.head = data
            asyncio.get_running_loop().call_soon(self.send_head)
            return
        if self.head and len(data) < TOGETHER:
            data, self.head = self.head + data, b""
        self.send_head()
        self.transport.write(data)

    def send_head(self) -> None:
        """Send the head now, if it is still here."""
        if self.head:
            head, self.head = self.head, b""
            self.transport.write(head)

    def close(self) -> None:
        """Send what is here, then end."""
        self.send_head()
        self.transport.close()


class Connection(Http):  # type: ignore[misc]
    """One connection, as uvicorn has it, with deadlines."""

    def __init__(self, config: uvicorn.Config, state: ServerState, known: Connections, surplus: bool) -> None:
        loop = asyncio.get_running_loop()
        self.known = known
        self.surplus = surplus
        """There are too many: all it gets is a sentence."""
        self.opening: asyncio.Task[None] | None = None
        """Makes TLS of it."""
        self.stage = Stage.HEAD
        self.since = self.came = loop.time()
        self.moved = 0  # bytes since then
        self.calls = 0
        self.stalled: tuple[float, int] | None = None  # when the other end stopped reading, with how much unsent
        self.flows = asyncio.Event()
        super().__init__(config, state, {"connection": self}, loop)

    # --- what the loop says

    def connection_made(self, transport: Any) -> None:
        """Note that TLS stands."""
        transport.set_read_buffer_limits(READ_AHEAD)
        super().connection_made(Together(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is over."""
        self.known.forget(self)
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

    # --- what the app says

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

    @property
    def open(self) -> bool:
        """Whether anything that is sent may still arrive."""
        return not self.transport.is_closing()

    async def sent(self) -> None:
        """Wait until little is left to be sent."""
        if self.stalled is not None:
            await self.flows.wait()

    def trust(self) -> None:
        """Note that it has shown a right token."""
        self.known.trust(self)

    def drop(self) -> None:
        """End it, whatever is under way."""
        self.known.forget(self)
        if self.opening is not None:
            self.opening.cancel()
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


class Connections:
    """The connections that there are: so many at most. Used in the event loop alone."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.here: dict[Connection, None] = {}
        self.strangers: dict[Connection, None] = {}  # those of them that have shown no token; the oldest first
        self.surplus: dict[Connection, None] = {}  # beside them: they are told that there are too many
        self.gone = 0  # since somebody last looked
        self.freed = asyncio.Event()  # a stranger's place
        self.trusted = 0.0  # when one showed a token last

    def __iter__(self) -> Iterator[Connection]:
        return iter([*self.here, *self.surplus])

    async def make_room(self) -> bool:
        """Wait for a stranger's place; return False if there is none, for all that are here have shown a token.

        When strangers have all of them, the oldest makes room if it has had time to show a token, and if no other shows
        one. So those who would keep others out do not for long; and of thousands of workers that start at once, none is
        sent away while others are coming in.
        """
        while True:
            places = min(MAX_STRANGERS, self.most - len(self.here) + len(self.strangers))
            if len(self.strangers) < places or not places:
                return bool(places)
            oldest = next(iter(self.strangers))
            grace = max(oldest.came, self.trusted) + GRACE_SECONDS - oldest.loop.time()
            if grace <= 0:
                oldest.drop()
                continue
            self.freed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.freed.wait(), grace)

    def trust(self, connection: Connection) -> None:
        """Note that one has shown a right token."""
        if connection in self.strangers:
            del self.strangers[connection]
            self.trusted = connection.loop.time()
            self.freed.set()

    def forget(self, connection: Connection) -> None:
        """Take a connection off the lists."""
        for ones in (self.here, self.strangers, self.surplus):
            if connection in ones:
                del ones[connection]
                self.gone += ones is not self.strangers
        self.freed.set()
