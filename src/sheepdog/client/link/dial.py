"""Dialling: the other side has several addresses, and the first that answers is taken, of the better way if both do.

    https://HOST:PORT   direct: the machine of the server itself
    relay://HOST:PORT   the relay on the head node, which passes on what it is sent

TLS tells who answers: only the server has the key of the certificate that is pinned.
"""

import collections
import errno
import os
import select
import socket
import ssl
import threading
import time

from ..wire.limits import FOUND_AT_ONCE, HEAD_START, STAGGER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Places = list[tuple[Any, ...]]  # as getaddrinfo gives them

WAYS = {"https": "direct", "relay": "relay"}  # by the scheme of an address, the best first

DIRECT = "direct"
MOST = 4  # connections to what one address means

Address = collections.namedtuple("Address", "way host port")


class Unreachable(Exception):
    """No address has answered. reasons has what is known of each."""

    def __init__(self, reasons: "dict[Address, str]") -> None:
        words = ["%s: %s" % (named(address), reason) for address, reason in reasons.items()]
        super(Unreachable, self).__init__("; ".join(words) or "the server has told no address yet")
        self.reasons = reasons


def addresses(urls: "Sequence[str]") -> "list[Address]":
    """Return what is in URLs, those of the best way first; what is none is left out."""
    found = []
    for url in urls:
        scheme, _, rest = str(url).partition("://")
        host, _, port = rest.rpartition(":")
        if scheme in WAYS and host and port.isdigit():
            found.append(Address(WAYS[scheme], host.strip("[]"), int(port)))
    return sorted(found, key=lambda address: list(WAYS.values()).index(address.way))


def named(address: Address) -> str:
    """Return an address as a text."""
    return ("[%s]:%d" if ":" in address.host else "%s:%d") % (address.host, address.port)


class Dialling(object):
    """Calls several addresses at once. Those of a worse way begin later, or when all of a better one have failed."""

    def __init__(self, context: ssl.SSLContext, wanted: "Sequence[Address]", timeout: float) -> None:
        self.context = context
        self.wanted = list(wanted)
        self.timeout = timeout
        self.begun = time.monotonic()
        self.latest = 0.0  # when the latest was called
        self.called = set()  # type: set[Address]
        self.reasons = {}  # type: dict[Address, str]  # why these do not answer
        self.names = set()  # type: set[Address]  # those that are being looked up
        self.found = []  # type: list[tuple[Address, Places, str]]  # what these mean, or why that is not known
        self.calls = {}  # type: dict[Any, Address]  # sockets
        self.reading = set()  # type: set[Any]  # those of these that wait for something to read; the rest, to write

    def run(self, more: "Callable[[], Sequence[Address]]", stopped: "Callable[[], bool]") -> "tuple[Any, Address]":
        """Return a connection, and to which address; Unreachable if there is none.

        more is asked now and then for all addresses, of which some may be new; stopped whether to give up.
        """
        deadline = self.begun + self.timeout
        asked = self.begun
        try:
            while not stopped() and time.monotonic() < deadline:
                self._call_next()
                found = self._wait()
                if found is not None:
                    return found
                over = not (self.calls or self.names) and len(self.reasons) == len(self.wanted)
                if over or time.monotonic() - asked > HEAD_START:
                    asked = time.monotonic()
                    new = [each for each in more() if each not in self.wanted]
                    self.wanted += new
                    if over and not new:
                        break
                    self.called.difference_update(self.reasons)  # a relay comes again at the same place
            for address in self.calls.values():
                self.reasons[address] = "no answer for %d s" % (time.monotonic() - self.begun)
            for address in self.names:
                self.reasons[address] = "its name has not been found for %d s" % (time.monotonic() - self.begun)
            raise Unreachable(self.reasons)
        finally:
            for call in self.calls:
                call.close()

    def _call_next(self) -> None:
        """Call the next address, if it is time for it."""
        now = time.monotonic()
        if self.calls and now - self.latest < STAGGER:
            return
        for address in self.wanted:
            if address not in self.called and (now - self.begun >= HEAD_START or not self._waits_for_better(address)):
                self.latest = now
                self.called.add(address)
                self._call(address)
                return

    def _waits_for_better(self, address: Address) -> bool:
        """Tell whether an address of a better way may answer yet."""
        order = list(WAYS.values())
        better = order[: order.index(address.way)]
        return any(each.way in better and each not in self.reasons for each in self.wanted)

    def _call(self, address: Address) -> None:
        """Look up what an address means, and begin connections to that.

        In a thread of its own: a name server that does not answer is to hold up no other address.
        """
        self.reasons.pop(address, None)
        self.names.add(address)
        thread = threading.Thread(target=self._look_up, args=(address,))
        thread.daemon = True
        thread.start()
        thread.join(FOUND_AT_ONCE)

    def _look_up(self, address: Address) -> None:
        try:
            self.found.append((address, socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM), ""))
        except (OSError, UnicodeError) as error:
            self.found.append((address, [], words_of(error)))

    def _connect(self, address: Address, places: "Places", reason: str) -> None:
        """Begin connections to all that an address means. If that is nothing, there is a reason."""
        self.names.discard(address)
        for family, kind, protocol, _, place in places[:MOST]:
            try:
                call = socket.socket(family, kind, protocol)
                call.setblocking(False)
                status = call.connect_ex(place)
            except OSError as error:  # of a kind that is not known here
                reason = words_of(error)
                continue
            if status in (0, errno.EINPROGRESS):
                self.calls[call] = address
            else:
                call.close()
                reason = os.strerror(status)
        if address not in self.calls.values():
            self.reasons[address] = reason

    def _wait(self) -> "tuple[Any, Address] | None":
        """Wait a little for an answer; return the connection if it is the server's."""
        while self.found:
            self._connect(*self.found.pop())
        if not self.calls:
            if self.names:
                time.sleep(STAGGER / 10)
            return None
        reading, writing = list(self.reading), [call for call in self.calls if call not in self.reading]
        ready = select.select(reading, writing, [], STAGGER)
        for call in sorted(ready[0] + ready[1], key=lambda call: self.wanted.index(self.calls[call])):
            address = self.calls.pop(call)
            self.reading.discard(call)
            try:
                if not isinstance(call, ssl.SSLSocket):
                    status = call.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if status:
                        raise OSError(status, os.strerror(status))
                    call = self.context.wrap_socket(call, do_handshake_on_connect=False)
                call.do_handshake()
            except ssl.SSLWantReadError:
                self.reading.add(call)
                self.calls[call] = address
            except ssl.SSLWantWriteError:
                self.calls[call] = address
            except (OSError, ValueError) as error:
                call.close()
                if address not in self.calls.values():
                    self.reasons[address] = words_of(error)
            else:
                return call, address
        return None


def words_of(error: Exception) -> str:
    """Return what an error says, short."""
    if isinstance(error, ssl.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "somebody else answers there: its certificate is not the server's"
    return str(getattr(error, "strerror", None) or error)
