"""TLS of the server: with the database's certificate, and little memory for each connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from asyncio.sslproto import SSLProtocol

from ...storage import Storage
from ..certificate import ensure_certificate

CLOSE_SECONDS = 5.0  # for the other end to agree that a connection ends


NARROW, WIDE = 1 << 15, 1 << 18  # bytes of the buffer that each connection has; asyncio's own is always wide


class TLS(SSLProtocol):
    """asyncio's TLS with another size of its buffer. asyncio has one for all of a process, and no option for it."""

    max_size = NARROW

    def resize(self, size: int) -> None:
        """Take in so many bytes at a time from now on."""
        self._ssl_buffer = bytearray(size)
        self._ssl_buffer_view = memoryview(self._ssl_buffer)

    def get_buffer(self, n: int) -> memoryview:  # noqa: ARG002
        """Return where to put what comes."""
        return self._ssl_buffer_view


async def open_tls(protocol: asyncio.Protocol, accepted: socket.socket, context: ssl.SSLContext, seconds: float) -> TLS:
    """Make TLS of an accepted connection, and return it; the protocol hears of it. OSError if not in this time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    tls = TLS(
        loop,
        protocol,
        context,
        done,
        server_side=True,
        ssl_handshake_timeout=seconds,  # type: ignore[arg-type]  # any number will do
        ssl_shutdown_timeout=CLOSE_SECONDS,
    )
    transport, _ = await loop.connect_accepted_socket(lambda: tls, accepted)
    try:
        await done
    except BaseException:
        transport.abort()
        raise
    return tls


def make_context(dbfile: str) -> ssl.SSLContext:
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
