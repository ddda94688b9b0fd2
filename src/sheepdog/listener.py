"""The server process: carries bytes between the workers and the service, and goes when there is nothing left to do.

    event loop    TLS, HTTP, sizes, tokens          (starlette on uvicorn)
    writer        the service and the only writing connection: many calls, one commit, then the replies
    watcher       asks the schedulers what became of the array jobs

Each is a thread; they meet in the writer's queue.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import hmac
import io
import itertools
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from .certificate import ensure_certificate
from .client import IN_MEMORY, MAX_HEADER, pack, unpack
from .errors import ServerError, StorageError
from .model import StoredBlob
from .server import Server, sign, take_lock
from .service import Call, Reply, refuse
from .storage import MAX_VALUE, Storage
from .watcher import Watcher
from .writer import Writer

log = logging.getLogger(__name__)

LINGER = 10.0  # seconds without an unfinished request after which the process ends
MAX_BODY = MAX_VALUE + MAX_HEADER + (1 << 20)


class Seldom(logging.Filter):
    """Lets the same words pass once a minute: whoever makes them often must not fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write a record."""
        now = time.monotonic()
        seldom = now - self.last.get(record.msg, -60.0) >= 60.0
        if seldom:
            self.last = {record.msg: now}
        return seldom


class Body:
    """The body of a call, read in pieces as it comes."""

    def __init__(self, request: Request) -> None:
        self.stream = request.stream()
        self.buffer = bytearray()
        self.unheard = 0

    async def read(self, length: int) -> bytes:
        """Read exactly this many bytes; ValueError if there are fewer."""
        while len(self.buffer) < length:
            self.buffer += await self._chunk()
        data = bytes(memoryview(self.buffer)[:length])
        del self.buffer[:length]
        return data

    async def read_blob(self, length: int, heard: Callable[[], None]) -> Any:
        """Read a blob: bytes, or a temporary file if it is large. heard is called now and then meanwhile."""
        if length <= IN_MEMORY:
            return await self.read(length)
        spool = tempfile.TemporaryFile()  # noqa: SIM115 (whoever reads the blob closes it)
        try:
            while length:
                self.unheard += len(self.buffer)
                if self.unheard > 4 * IN_MEMORY:
                    self.unheard = 0
                    heard()
                if not self.buffer:
                    self.buffer += await self._chunk()
                part = self.buffer[:length]
                del self.buffer[: len(part)]
                spool.write(part)
                length -= len(part)
        except BaseException:
            spool.close()
            raise
        return spool

    async def _chunk(self) -> bytes:
        async for chunk in self.stream:
            if chunk:
                return chunk
        raise ValueError("the body is cut off")


class Door:
    """Who may come in, and how much they may carry."""

    def __init__(self, writer: Writer, dbfile: str) -> None:
        self.writer = writer
        self.dbfile = dbfile
        self.tokens: dict[int, str] = {}

    async def call(self, request: Request) -> Response:
        """Answer one call."""
        try:
            reply = await self._answer(request)
        except ValueError as error:
            reply = refuse(400, f"not a frame: {error}")
        except ClientDisconnect:
            reply = refuse(400, "the body is cut off")
        except StorageError as error:
            log.warning("%s", error)
            reply = refuse(507, str(error))
        except Exception as error:
            log.warning("a call failed: %r", error)
            reply = refuse(500, "the server failed; its log says why")
        if reply.status != 200:
            # The rest of the body was not read: the connection cannot carry another call.
            return PlainTextResponse(reply.text, reply.status, {"connection": "close"})
        return self._respond(reply)

    async def _answer(self, request: Request) -> Reply:
        request_id = request.path_params["request_id"]
        verb = request.path_params["verb"]
        if "origin" in request.headers or any(name.startswith("sec-fetch-") for name in request.headers):
            return refuse(403, "this is no place for a browser")
        if not await self._authentic(request_id, request.headers.get("authorization", "")):
            return refuse(401, "the token is not this request's")
        if verb not in ("join", "exchange"):
            return refuse(404, "calls are join and exchange")
        try:
            length = int(request.headers["content-length"])
        except (KeyError, ValueError):
            return refuse(411, "a call needs a Content-Length")
        if length > MAX_BODY:
            return refuse(413, f"the call has {length} bytes; {MAX_BODY} are allowed")
        blobs: list[Any] = []
        body = Body(request)
        try:
            size = int.from_bytes(await body.read(4), "big")
            if size > min(MAX_HEADER, length):
                return refuse(413, f"the header has {size} bytes; {MAX_HEADER} are allowed")
            header = unpack(io.BytesIO(size.to_bytes(4, "big") + await body.read(size)))
            if 4 + size + sum(header["blobs"]) != length:
                raise ValueError("the lengths of the blobs do not add up to the body's")
            if length <= IN_MEMORY:
                rest = await body.read(length - 4 - size)
                ends = list(itertools.accumulate(header["blobs"]))
                blobs = [rest[end - blob : end] for blob, end in zip(header["blobs"], ends, strict=True)]
            else:
                worker = str(header.get("worker"))

                def heard() -> None:  # an upload may take longer than a lease
                    self.writer.submit(lambda service: service.heard(request_id, worker))

                for blob in header["blobs"]:
                    blobs.append(await body.read_blob(blob, heard))
            call = Call(request_id, verb, header, blobs)
            reply = await asyncio.wrap_future(self.writer.submit(lambda service: service.handle(call)))
            assert isinstance(reply, Reply)
            return reply
        finally:
            for blob in blobs:
                if not isinstance(blob, bytes):
                    blob.close()

    async def _authentic(self, request_id: int, shown: str) -> bool:
        token = self.tokens.get(request_id)
        if token is None:
            token = await asyncio.wrap_future(self.writer.submit(lambda service: service.token(request_id)))
            if token is not None:
                self.tokens[request_id] = token
        return hmac.compare_digest(f"Bearer {token or os.urandom(32).hex()}".encode(), shown.encode("latin-1"))

    def _respond(self, reply: Reply) -> Response:
        lengths = [blob.length if isinstance(blob, StoredBlob) else len(blob) for blob in reply.blobs]
        head = pack(reply.header, lengths)
        if not any(isinstance(blob, StoredBlob) for blob in reply.blobs):
            return Response(b"".join([head, *reply.blobs]), media_type="application/x-sheepdog")  # type: ignore[list-item]
        headers = {"content-length": str(len(head) + sum(lengths))}
        return StreamingResponse(self._stream(head, reply.blobs), 200, headers, "application/x-sheepdog")

    async def _stream(self, head: bytes, blobs: list[bytes | StoredBlob]) -> AsyncIterator[bytes]:
        yield head
        with Storage(self.dbfile) as storage:
            for blob in blobs:
                if isinstance(blob, StoredBlob):
                    chunks = storage.chunks(blob)
                    while chunk := await asyncio.to_thread(next, chunks, b""):
                        yield chunk
                else:
                    yield blob


def serve(dbfile: str, lock: int | None = None, inherited: int | None = None) -> None:
    """Serve until there is nothing left to do, or until SIGTERM."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    dbfile = os.path.abspath(dbfile)
    if lock is None or inherited is None:
        lock = take_lock(dbfile)
        if lock is None:
            raise ServerError(f"the server of {dbfile} is running already, as process {Server(dbfile=dbfile).pid}")
        with Storage(dbfile) as storage:
            listener = Server(dbfile=dbfile).claim(storage)
    else:
        listener = socket.socket(fileno=inherited)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger("asyncio").addFilter(Seldom())
    asyncio.sslproto.SSLProtocol.max_size = 1 << 15  # a buffer for each connection; 256 KiB else
    sys.setswitchinterval(0.0005)  # the loop and the writer pass every call to and fro
    sign(lock, dbfile)
    log.info("serving %s on port %d as process %d", dbfile, listener.getsockname()[1], os.getpid())
    told = asyncio.run(_run(dbfile, listener))
    log.info("ended by a signal" if told else "nothing left to do")
    os.close(lock)
    with Storage(dbfile) as storage:
        if storage.unfinished() and not told:
            Server(dbfile=dbfile).start()  # a request came while this process was leaving


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would raise them again and skip our own end."""
        yield


async def _run(dbfile: str, listener: socket.socket) -> bool:
    """Serve; return whether a signal ended it."""
    writer = Writer(dbfile)
    door = Door(writer, dbfile)
    app = Starlette(routes=[Route("/requests/{request_id:int}/{verb}", door.call, methods=["POST"])])
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=300,  # longer than the longest heartbeat
        timeout_graceful_shutdown=5,
        ssl_context_factory=lambda *_: tls(dbfile),
    )
    server = _Uvicorn(config)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    watcher = Watcher(writer)
    writer.start()
    watcher.start()
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    telling = asyncio.ensure_future(told.wait())
    while not serving.done():
        await asyncio.wait([serving, telling], timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        if told.is_set() or time.monotonic() - writer.idle_since > LINGER or not writer.is_alive():
            server.should_exit = True
            await serving
    telling.cancel()
    watcher.stop()
    writer.stop()
    return told.is_set()


def tls(dbfile: str) -> ssl.SSLContext:
    """Return the context with the database's certificate. OpenSSL reads files only: this one lives for a moment."""
    with Storage(dbfile) as storage:
        ensure_certificate(storage)
        pem = storage.get_setting("key") + storage.get_setting("certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context
