"""The link over HTTPS: one connection, kept alive, to a server whose certificate is known."""

import json
import os
import socket
import ssl
import time
from http.client import HTTPException, HTTPSConnection

from ..wire.frames import chunks_of, pack, read_blobs, size_of, unpack
from ..wire.limits import (
    BETTER_PAUSE,
    BETTER_TIMEOUT,
    CHUNK,
    CONNECT_TIMEOUT,
    COPIED,
    GONE_PATIENCE,
    MAX_RETRY_AFTER,
    REPLY_TIMEOUT,
)
from . import Later, Link, Over, Refused
from .dial import DIRECT, Dialling, Unreachable, addresses, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from http.client import HTTPResponse
    from typing import Any

    from ..wire.frames import Blob
    from . import Answer
    from .dial import Address


NO_CHECK_TIME = 0x200000  # of OpenSSL 1.1.0 and newer: X509_V_FLAG_NO_CHECK_TIME, for which ssl has no name


class Connection(HTTPSConnection):
    """A connection that sends what is small together with the head: one TLS record, and the server wakes once."""

    behind = b""  # the head of the next call

    def send(self, data: "Any") -> None:
        """Send bytes."""
        if self.behind:
            data, self.behind = data + self.behind, b""
        HTTPSConnection.send(self, data)


class HttpsLink(Link):
    """The connection to the server. It is opened by the first call, and again by the first after a failure."""

    def __init__(self, secret: "dict[str, Any]") -> None:
        self.directory = secret["directory"]
        self.path = "/requests/%d/" % secret["request"]
        self.token = secret["token"]
        self.urls = secret["urls"]
        self.at = None  # type: Address | None  # to which of these it is connected
        self.next_look = 0.0  # for a better one
        self.calling = False
        self.interrupted = False
        self.gone_since = None  # type: float | None  # the secret
        self.connection = None  # type: Connection | None
        self.context = pinned(secret["certificate"])

    @property
    def where(self) -> str:
        """The server's addresses."""
        return " ".join(self.urls)

    def join(self, about: "dict[str, Any]") -> "Answer":
        """Say what this worker is; return the settings and the function."""
        answer = self._call("join", about, (), float("inf"))
        self.silence = answer[0]["heartbeat"]
        return answer

    def exchange(self, header: "dict[str, Any]", blobs: "Sequence[Blob]", deadline: float) -> "Answer":
        """Bring a call; return the reply."""
        return self._call("exchange", header, blobs, deadline)

    def interrupt(self) -> None:
        """Shut the connection down if a call is under way."""
        if not self.calling:
            return
        self.interrupted = True
        try:
            self.connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        except (AttributeError, OSError):  # there is none, or it is being made: that is not for long
            pass

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _call(self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]", deadline: float) -> "Answer":
        self.calling, self.interrupted = True, False
        try:
            reply = self._send(verb, header, blobs, deadline)
            if reply.status != 200:
                text = reply.read(4096).decode("utf-8", "replace")
                raise refusal(reply.status, text, reply.getheader("Retry-After"))
            answer = unpack(reply)
            found = read_blobs(reply, answer["blobs"])
            reply.read()  # to its end, or the connection cannot be used again
        except (Later, OSError, HTTPException, ValueError, Unreachable) as error:
            self.close()
            self._look_for_addresses()
            raise error if isinstance(error, Later) else Later(str(error))
        finally:
            self.calling = False
        return answer, found

    def _send(self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]", deadline: float) -> "HTTPResponse":
        lengths = [size_of(blob) for blob in blobs]
        head = pack(header, lengths)
        total = len(head) + sum(lengths)
        small, body = b"", None  # type: bytes, Any
        if total < COPIED:
            small = head + b"".join(blobs)
        elif total < CHUNK:
            body = head + b"".join(blobs)
        else:
            body = (chunk for blob in [head] + list(blobs) for chunk in chunks_of(blob))
        headers = {
            "Authorization": "Bearer " + self.token,
            "Content-Type": "application/x-sheepdog",
            "Content-Length": str(total),
        }
        connection = self._connection(deadline)
        connection.behind = small
        connection.request("POST", self.path + verb, body, headers)
        return connection.getresponse()

    def _connection(self, deadline: float) -> "Connection":
        """Return the connection; it is opened if it has to be."""
        left = max(0.1, deadline - time.monotonic())
        now = time.monotonic()
        if self.connection is None or self.connection.sock is None:
            self._dial(addresses(self.urls), min(CONNECT_TIMEOUT, left), self._known)
        elif self.at is not None and self.at.way != DIRECT and now >= self.next_look:
            better = [each for each in addresses(self.urls) if each.way == DIRECT]
            try:
                self._dial(better, min(BETTER_TIMEOUT, left), lambda: better)
            except Unreachable:
                self.next_look = now + BETTER_PAUSE
        assert self.connection is not None
        reply_timeout = min(REPLY_TIMEOUT, max(5.0, 3 * self.silence))  # or a lost packet may cost the lease
        self.connection.sock.settimeout(min(reply_timeout, left))
        return self.connection

    def _dial(self, wanted: "Sequence[Address]", timeout: float, more: "Callable[[], Sequence[Address]]") -> None:
        """Connect to one of these, or raise Unreachable."""
        dialling = Dialling(self.context, wanted, timeout)
        sock, self.at = dialling.run(more, lambda: self.interrupted)
        self.close()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = Connection(self.at.host, self.at.port, context=self.context)
        self.connection.sock = sock
        self.next_look = time.monotonic() + BETTER_PAUSE
        worse = [each for each in dialling.wanted if each.way == DIRECT] if self.at.way != DIRECT else []
        why = ["%s: %s" % (named(each), dialling.reasons.get(each, "no answer yet")) for each in worse]
        self.way = self.at.way, named(self.at), "; ".join(why)

    def _known(self) -> "list[Address]":
        """Return all addresses, some of which may have been told since the worker began."""
        self._look_for_addresses()
        return addresses(self.urls)

    def _look_for_addresses(self) -> None:
        """Read the server's addresses again: it writes them anew when it has others.

        Raise Over if there have been none for long: what the server takes away when the request has ended.
        """
        try:
            with open(os.path.join(self.directory, "secret.json"), encoding="utf-8") as file:
                self.gone_since = None
                urls = json.load(file)["urls"]
            if addresses(urls):
                self.urls = urls
        except FileNotFoundError:
            now = time.monotonic()
            self.gone_since = self.gone_since or now
            if now - self.gone_since > GONE_PATIENCE:  # a file system may be slow to show a file that was replaced
                raise Over("the request has ended: its secret is gone, and the server does not answer")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass


def pinned(certificate: str) -> ssl.SSLContext:
    """Return a context that trusts this certificate and no other."""
    context = ssl.create_default_context(cadata=certificate)
    context.check_hostname = False  # the certificate itself is pinned
    context.verify_flags |= NO_CHECK_TIME  # ... so its dates tell nothing, and a node's clock may be days off
    if hasattr(ssl, "TLSVersion"):
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # novm
    else:  # 3.6
        context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    return context


def refusal(status: int, text: str, retry_after: "str | None") -> Exception:
    """Return what a reply other than 200 means."""
    text = "the server says %d: %s" % (status, text)
    if status == 410:
        return Over(text)
    if status < 500 and status != 429:
        return Refused(text)
    return Later(text, seconds_of(retry_after))


def seconds_of(text: "str | None") -> float:
    """Return what a server's Retry-After asks for, if that is not too long; else 0."""
    seconds = int(text) if text and text.isdigit() else 0
    return seconds if seconds <= MAX_RETRY_AFTER else 0
