"""The line to the server: one call at a time, tried again."""

import json
import os
import random
import socket
import time

from ..parent.signals import WARNINGS, Signals
from ..wire.frames import chunks_of, pack, read_blob, size_of, unpack
from ..wire.limits import CHUNK, CONNECT_TIMEOUT, MAX_RETRY_AFTER, PROTOCOL, REPLY_TIMEOUT
from ..wire.values import describe_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.client import HTTPResponse, HTTPSConnection  # noqa: F401 (named in a comment)
    from typing import Any

    from ..wire.frames import Blob


class Refused(Exception):
    """The server will not have this worker, or has not answered for too long: it ends."""


class Over(Exception):
    """There is nothing to do any more: the worker ends, and all is well."""


class Line(object):
    """The connection to the server: one call at a time, kept alive, tried again with growing pauses."""

    def __init__(self, secret: "dict[str, Any]", about: "dict[str, Any]", signals: Signals) -> None:
        self.secret = secret
        self.about = about
        self.signals = signals
        signals.interrupt = self.interrupt
        self.connect_timeout = CONNECT_TIMEOUT
        self.reply_timeout = REPLY_TIMEOUT
        self.calls = 0
        self.calling = False
        self.turn = 0
        self.connection = None  # type: HTTPSConnection | None
        self.heartbeat = 20.0
        self.failures = 0
        self.failing_since = 0.0
        self.next_call = 0.0  # when it is due
        import ssl  # not at the top: the host, which imports this file too, has no use for it

        self.context = ssl.create_default_context(cadata=secret["certificate"])
        self.context.check_hostname = False  # the certificate itself is pinned
        if hasattr(ssl, "TLSVersion"):
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2  # novm
        else:  # 3.6
            self.context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1

    def log(self, text: str) -> None:
        """Write a line to the scheduler's output file."""
        try:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), "worker %s: %s" % (self.about["worker"][:8], text), flush=True)
        except OSError:  # a full disk is no reason not to compute
            pass

    def join(self) -> "tuple[dict[str, Any], list[Blob]]":
        """Say what this worker is; return the settings and the function. Keep trying."""
        while True:
            if self.signals.warning:
                raise Over(WARNINGS[self.signals.warning])
            header = {"protocol": PROTOCOL, "python": describe_python()}
            answer = self.call("join", header, (), self.secret["patience"])
            if answer is not None:
                self.heartbeat = answer[0]["heartbeat"]
                self.reply_timeout = min(
                    REPLY_TIMEOUT, max(5.0, 3 * self.heartbeat)
                )  # or a lost packet may cost the lease
                return answer
            self.signals.sleep(self.next_call - time.monotonic())

    def call(
        self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]", patience: float
    ) -> "tuple[dict[str, Any], list[Blob]] | None":
        """Make a call; return the reply's header and blobs. None if it failed: try again from next_call on.

        Refused if the server says no, or when nothing was heard of it for longer than patience. Over if the request
        has ended.
        """
        from http.client import HTTPException

        retry_after = 0.0
        self.calling = True
        try:
            reply = self._send(verb, self.signed(header), blobs)
            if reply.status != 200:
                text = "%d: %s" % (reply.status, reply.read(4096).decode("utf-8", "replace"))
                if reply.status == 410:
                    raise Over("the server says " + text)
                if reply.status < 500 and reply.status != 429:
                    raise Refused("the server says " + text)
                retry_after = seconds_of(reply.getheader("Retry-After"))
                raise OSError("the server says " + text)
            answer = unpack(reply)
            found = [read_blob(reply, length) for length in answer["blobs"]]
            reply.read()  # to its end, or the connection cannot be used again
        except (OSError, HTTPException, ValueError) as error:
            self.hang_up()
            self._wait_longer(error, patience, retry_after)
            return None
        finally:
            self.calling = False
        if self.failures:
            self.log("the server answers again")
        self.failures = 0
        return answer, found

    def call_within(self, seconds: float) -> None:
        """Let the next call be no later than this, from now; but a server that does not answer keeps its pause."""
        if not self.failures:
            self.next_call = min(self.next_call, time.monotonic() + seconds)

    def signed(self, header: "dict[str, Any]") -> "dict[str, Any]":
        """Return the header of the next call: with its number, and the name of this worker."""
        self.calls += 1
        return dict(header, call=self.calls, **self.about)

    def _send(self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]") -> "HTTPResponse":
        from http.client import HTTPSConnection

        lengths = [size_of(blob) for blob in blobs]
        head = pack(header, lengths)
        total = len(head) + sum(lengths)
        if total < CHUNK:
            body = head + b"".join(blobs)  # type: Any
        else:
            body = (chunk for blob in [head] + list(blobs) for chunk in chunks_of(blob))
        if self.connection is None or self.connection.sock is None:
            urls = self.secret["urls"]
            host, port = urls[self.turn % len(urls)].split("://", 1)[1].rsplit(":", 1)
            self.connection = HTTPSConnection(
                host.strip("[]"), int(port), timeout=self.connect_timeout, context=self.context
            )
            self.connection.connect()
        self.connection.sock.settimeout(self.reply_timeout)
        headers = {
            "Authorization": "Bearer " + self.secret["token"],
            "Content-Type": "application/x-sheepdog",
            "Content-Length": str(total),
        }
        self.connection.request("POST", "/requests/%d/%s" % (self.secret["request"], verb), body, headers)
        return self.connection.getresponse()

    def hang_up(self) -> None:
        """Close the connection; the next call opens another, to the next address if there are several."""
        self.turn += 1
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def interrupt(self) -> None:
        """Let a call that is under way fail now: a warning has come, and the server may not answer in time."""
        if not self.calling:
            return
        try:
            self.connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        except (AttributeError, OSError):  # there is none, or it is being made: that is not for long
            pass

    def look_for_addresses(self) -> None:
        """Read the server's addresses again: it writes them anew when it has had to take another port."""
        try:
            with open(os.path.join(self.secret["directory"], "secret.json"), encoding="utf-8") as file:
                urls = json.load(file)["urls"]
            if urls and all("://" in url and url.rsplit(":", 1)[1].isdigit() for url in urls):
                if urls != self.secret["urls"]:
                    self.log("the server is now at %s" % " ".join(urls))
                    self.turn = 0
                    self.next_call = 0.0
                self.secret["urls"] = urls
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass

    def _wait_longer(self, error: Exception, patience: float, retry_after: float) -> None:
        self.failures += 1
        now = time.monotonic()
        if self.failures == 1:
            self.failing_since = now
        if now - self.failing_since > patience:
            raise Refused("no answer from the server for %d s; the last error was: %s" % (patience, error))
        if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
            self.log("cannot reach %s (%s); trying on" % (" ".join(self.secret["urls"]), error))
        # Even the longest pause is shorter than a lease, so that the next server hears of what this worker holds.
        pause = random.uniform(0.2, 1.0) * min(3 * self.heartbeat, 0.25 * 2 ** min(self.failures, 9))
        self.next_call = now + max(pause, retry_after * random.uniform(1.0, 1.5))
        self.look_for_addresses()


def seconds_of(text: "str | None") -> float:
    """Return what a server's Retry-After asks for, if that is not too long; else 0."""
    seconds = int(text) if text and text.isdigit() else 0
    return seconds if seconds <= MAX_RETRY_AFTER else 0
