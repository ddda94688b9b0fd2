"""The ASGI application: which calls are let in, and how large; HTTP on this side, the service on the other.

Nothing of a body is read before the token was right. Whoever shows a wrong one waits for the answer, and hears the same
whether the request, the token or the address is wrong.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from ...client import MAX_HEADER, MAX_VALUE, pack
from ...errors import StorageError
from ...storage import Storage
from ...values.model import StoredBlob
from ..calls import Call, Reply, refuse
from ..decide import exchange
from ..decide.held import HeldCall
from ..decide.service import Service
from ..writer import Writer
from .asgi import Gone, Receive, Request, Scope, Send, respond, respond_in_pieces
from .body import BLOB_MEMORY, HEADER_MEMORY, JSON_GROWTH, Body, Budget, NoMemory, TooLarge
from .connections import MAX_HEAD, Connection, Stage
from .tokens import Tokens, same

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/x-sheepdog"
PATH = re.compile("/requests/([1-9][0-9]{0,17})/([a-z]{1,20})")
NOWHERE = 0, ""  # no request has this number
MAX_BODY = MAX_VALUE + MAX_HEADER + (1 << 20)
PIECE = 256 << 10  # of a reply
REFUSE_SECONDS = 1.0  # after which a wrong token is answered
MAX_REFUSED = 100  # answers that wait so; further ones are none: the connection ends
WRONG = "the token is not this request's"
RETRY = {"retry-after": "5"}


class App:
    """The ASGI application."""

    def __init__(self, writer: Writer, dbfile: str) -> None:
        self.writer = writer
        self.dbfile = dbfile
        self.directory = os.path.dirname(dbfile)
        self.tokens = Tokens(lambda request_id: self._decide(lambda service: service.token(request_id)))
        self.waiting: set[asyncio.Future[Reply | None]] = set()  # for tasks, in held calls
        self.over = False  # no call is held any more
        self.refused = 0  # answers that wait
        self.headers = Budget(HEADER_MEMORY)
        self.blobs = Budget(BLOB_MEMORY)
        self.replies: dict[int, int] = {}  # request -> bytes of the latest reply; the next one may be as large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        connection: Connection = scope["state"]["connection"]
        number = connection.begin()
        request = Request(scope, receive)
        try:
            reply = await self._answer(request, connection)
            if reply is None:
                connection.drop()
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            if reply.status != 200:
                # The body may not have been read to its end: the connection cannot carry another call.
                headers = {"connection": "close", "content-type": "text/plain; charset=utf-8", **reply.header}
                await respond(send, reply.status, headers, reply.text.encode())
                return
            size = 2 * in_memory(reply)  # TLS has a copy
            self.blobs.take(size)
            try:
                await self._respond(reply, connection, send)
                await connection.sent()
            finally:
                await self.blobs.give_back(size)
        finally:
            connection.finish(number)

    async def _answer(self, request: Request, connection: Connection) -> Reply | None:
        """Return the reply; None if there is to be none."""
        headers = request.headers
        if request.method != "POST":
            return Reply({"allow": "POST"}, [], 405, "calls are POST")
        if "origin" in headers or any(name.startswith("sec-fetch-") for name in headers):
            return refuse(403, "this is no place for a browser")
        if request.size > MAX_HEAD:
            return refuse(431, f"the head of a call may have {MAX_HEAD} bytes")
        if connection.surplus:
            return Reply(RETRY, [], 503, "there are too many connections")
        found = PATH.fullmatch(request.path)
        request_id, verb = (int(found[1]), found[2]) if found else NOWHERE
        shown = headers.get("authorization", "")
        try:
            if not await self.tokens.fit(request_id, shown):
                return await self._refuse_slowly(connection)
            connection.trust()
            if verb not in ("join", "exchange"):
                return refuse(404, "calls are join and exchange")
            return check(headers) or await self._carry(request, connection, request_id, verb, shown)
        except TooLarge as error:
            return refuse(413, str(error))
        except ValueError as error:
            return refuse(400, f"not a frame: {error}")
        except Gone:
            return None
        except NoMemory:
            return Reply(RETRY, [], 503, "too many large calls at once")
        except StorageError as error:  # the writer logs it
            return refuse(507, str(error))
        except OSError as error:  # the disk of temporary files, or the descriptors
            log.warning("%s", error)
            return refuse(507, str(error))
        except Exception as error:
            log.warning("a call failed: %r", error)
            return refuse(500, "the server failed; its log says why")

    async def _refuse_slowly(self, connection: Connection) -> Reply | None:
        peer = (connection.client or "?")[0]
        log.warning("a call from %s was refused: the token is not that request's", peer)
        if self.refused >= MAX_REFUSED:
            return None
        self.refused += 1
        try:
            await asyncio.sleep(REFUSE_SECONDS)
        finally:
            self.refused -= 1
        return refuse(401, WRONG)

    async def _carry(self, request: Request, connection: Connection, request_id: int, verb: str, shown: str) -> Reply:
        """Read the body, and let the service decide."""
        with ExitStack() as stack:
            body = Body(request, int(request.headers["content-length"]), self.directory)
            stack.callback(body.close)
            connection.enter(Stage.BODY)
            size = await body.read_start()
            connection.enter(Stage.WORK)
            async with self.headers.hold(JSON_GROWTH * size):
                connection.enter(Stage.BODY)
                header = await body.read_header(size)
                connection.enter(Stage.WORK)
                expected = self.replies.get(request_id, 0) if header.get("want", 1) else 0
                async with self.blobs.hold(body.in_memory(header["blobs"]) + expected):
                    connection.enter(Stage.BODY)
                    worker = str(header.get("worker"))
                    await body.read_blobs(
                        header["blobs"],  # an upload may take longer than a lease
                        lambda: self.writer.submit(lambda service: exchange.heard(service, request_id, worker)),
                    )
                    connection.enter(Stage.WORK)
                    call = Call(request_id, verb, header, body.blobs)
                    later: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
                    held = HeldCall(request_id, worker, header.get("want", 0), functools.partial(set_soon, later))
                    reply = await self._authorised(
                        request_id, shown, lambda service: self.writer.hold(exchange.handle(service, call), held)
                    )
            if reply.hold:
                reply = await self._wait_for_tasks(request, held, later, reply)
            if reply.status == 200:
                self.replies[request_id] = 2 * in_memory(reply)
            return reply

    async def _wait_for_tasks(
        self, request: Request, held: HeldCall, later: asyncio.Future[Reply | None], reply: Reply
    ) -> Reply:
        """Return the answer with tasks, or the reply itself after as long as it may be held back."""
        gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())
        ends: list[asyncio.Future[Any]] = [later, gone]
        self.waiting.add(later)
        try:
            if not self.over:
                await asyncio.wait(ends, timeout=reply.hold, return_when=asyncio.FIRST_COMPLETED)
            if not later.done() or later.result() is None:
                await self._decide(lambda _: self.writer.let_go(held))  # from here on it has been answered, or is not
            if gone.done():
                raise Gone
            answer = later.result() if later.done() else None
            if answer is None or answer.status != 200:
                return answer or reply
            return answer._replace(header={**reply.header, **answer.header})
        finally:
            self.waiting.discard(later)
            gone.cancel()

    def release(self) -> None:
        """Hold no call any more: the server is ending."""
        self.over = True
        for later in self.waiting:
            if not later.done():
                later.set_result(None)

    async def _authorised(self, request_id: int, shown: str, decide: Callable[[Service], Reply]) -> Reply:
        """Let the service decide, unless the request has another token by now."""
        reply: Reply | None = await self._decide(
            lambda service: decide(service) if same(service.token(request_id), shown) else None
        )
        if reply is None:
            self.tokens.known.pop(request_id, None)
            return refuse(401, WRONG)
        return reply

    def _decide(self, decide: Callable[[Any], Any]) -> asyncio.Future[Any]:
        return asyncio.wrap_future(self.writer.submit(decide))

    async def _respond(self, reply: Reply, connection: Connection, send: Send) -> None:
        lengths = [blob.length if isinstance(blob, StoredBlob) else len(blob) for blob in reply.blobs]
        head = pack(reply.header, lengths)
        headers = {"content-type": MEDIA_TYPE}
        small = [blob for blob in reply.blobs if isinstance(blob, bytes)]
        if len(small) == len(lengths) and sum(lengths) <= PIECE:
            await respond(send, 200, headers, b"".join([head, *small]))
            return
        headers["content-length"] = str(len(head) + sum(lengths))
        await respond_in_pieces(send, headers, self._stream(head, reply.blobs, connection))

    async def _stream(
        self, head: bytes, blobs: Sequence[bytes | StoredBlob], connection: Connection
    ) -> AsyncIterator[bytes]:
        """Yield a reply in pieces, as long as the connection is there.

        Of one that is written at once, asyncio's TLS does not see that nobody reads it.
        """
        piece = bytearray(head)
        with ExitStack() as stack:
            storage: Storage | None = None
            for blob in blobs:
                if isinstance(blob, StoredBlob):
                    storage = storage or stack.enter_context(Storage(self.dbfile, make=False))
                    chunks = storage.chunks(blob)
                    while connection.open and (chunk := await asyncio.to_thread(next, chunks, b"")):
                        piece += chunk
                        yield bytes(piece)
                        piece.clear()
                else:
                    if len(blob) < PIECE:
                        piece += blob
                    if len(piece) >= PIECE or len(blob) >= PIECE:
                        yield bytes(piece)
                        piece.clear()
                    for start in range(0, len(blob) if len(blob) >= PIECE else 0, PIECE):
                        yield blob[start : start + PIECE]
        yield bytes(piece)


def set_soon(later: asyncio.Future[Reply | None], reply: Reply) -> None:
    """Set a future of the event loop, from another thread, unless it has been set."""

    def give() -> None:
        if not later.done():
            later.set_result(reply)

    with suppress(RuntimeError):  # the loop has ended
        later.get_loop().call_soon_threadsafe(give)


def in_memory(reply: Reply) -> int:
    """Return how many bytes of a reply are in memory."""
    return sum(len(blob) for blob in reply.blobs if isinstance(blob, bytes))


def check(headers: Mapping[str, str]) -> Reply | None:
    """Return what is wrong with a call's head, None if nothing is."""
    if headers.get("content-type") != MEDIA_TYPE:
        return refuse(415, f"the body of a call is {MEDIA_TYPE}")
    length = headers.get("content-length")
    if length is None or "transfer-encoding" in headers:
        return refuse(411, "a call needs a Content-Length")
    if not re.fullmatch("[0-9]{1,18}", length):
        return refuse(400, "the Content-Length is not a number of bytes")
    if int(length) > MAX_BODY:
        return refuse(413, f"the call has {length} bytes; {MAX_BODY} are allowed")
    return None
