"""A call as ASGI has it (asgi.readthedocs.io): its head, its body as it comes, and the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gone(Exception):
    """The other end has gone."""


class Request:
    """The head of a call. Of a header that comes twice, the first counts."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.receive = receive
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        self.size = len(scope["raw_path"] + scope["query_string"])
        """The bytes of the head."""
        self.size += sum(len(name) + len(value) for name, value in scope["headers"])
        self._more = True

    async def read(self) -> bytes:
        """Return the next bytes of the body, none at its end. Raises Gone."""
        while self._more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            self._more = message.get("more_body", False)
            if body := message.get("body"):
                return bytes(body)
        return b""


async def respond(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send an answer that is small."""
    await begin(send, status, {**headers, "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": body})


async def respond_in_pieces(send: Send, headers: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
    """Send an answer as it comes."""
    await begin(send, 200, headers)
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def begin(send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Send the head of an answer."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
