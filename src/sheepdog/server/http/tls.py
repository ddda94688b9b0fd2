"""TLS of the server: with the database's certificate, and little memory for each connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from asyncio.sslproto import SSLProtocol
from typing import Any

from ...storage import Storage
from ..certificate import ensure_certificate

CLOSE_SECONDS = 5.0  # for the other end to agree that a connection ends
BUFFER = 1 << 18  # bytes that are taken in at a time, of all connections of a loop
PIECE = 1 << 15  # bytes that are decrypted at a time


class TLS(SSLProtocol):
    """asyncio's TLS, which reads into a buffer that is given: asyncio makes each connection one of 256 KiB.

    What is read is taken out of it at once, so one buffer is enough for all connections of a loop.
    """

    max_size = 0  # bytes of the buffer that asyncio makes

    def __init__(self, buffer: bytearray, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_size = PIECE  # type: ignore[misc]  # from now on
        self._ssl_buffer, self._ssl_buffer_view = buffer, memoryview(buffer)


async def open_tls(
    protocol: asyncio.Protocol, accepted: socket.socket, context: ssl.SSLContext, seconds: float, buffer: bytearray
) -> None:
    """Make TLS of an accepted connection; the protocol hears when that is done. OSError if it is not, in this time.

    buffer is shared with other connections of the loop.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    tls = TLS(
        buffer,
        loop,
        protocol,
        context,
        done,
        server_side=True,
        ssl_handshake_timeout=seconds,
        ssl_shutdown_timeout=CLOSE_SECONDS,
    )
    transport, _ = await loop.connect_accepted_socket(lambda: tls, accepted)
    try:
        await done
    except BaseException:
        transport.abort()
        raise


def make_context(dbfile: str) -> ssl.SSLContext:
    """Return the context with the database's certificate. OpenSSL reads files only: this one lives for a moment."""
    with Storage(dbfile, make=False) as storage:
        ensure_certificate(storage)
        pem = storage.get_setting("key") + storage.get_setting("certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context
