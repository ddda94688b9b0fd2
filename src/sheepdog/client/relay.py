"""The relay: carries connections of workers, who reach the head node, to a server that only ssh reaches.

    worker ══ TCP ══ relay on the head node ── standard input and output of one ssh session ── Trunk ══ TCP ══ server

This file is the program on the head node, too: it is given to a Python there as text, and nothing of it stays. It ends
when the session does, or when nothing has come for a while. What it carries is TLS from end to end.

On the session there are frames: a kind, the number of a connection, a length, and that many bytes. At each end of a
connection at most WINDOW bytes wait for whoever reads them, so that no connection holds up the others.
"""

import asyncio
import errno
import json
import os
import resource
import signal
import socket
import stat
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HELLO, OPEN, DATA, ROOM, CLOSE, BEAT = range(6)
# HELLO  what one side says of itself at first, as JSON
# OPEN   there is a new connection
# DATA   bytes of one
# ROOM   so many more may be sent of one
# CLOSE  one has ended
# BEAT   this side lives

HEAD = struct.Struct(">BII")
WINDOW = 1 << 20  # bytes of a connection that have been sent and not been read
PIECE = 256 << 10  # of these are told at once that they have been
MAX_FRAME = 4 << 20
MAX_CONNECTIONS = 2000
BEAT_SECONDS = 10.0
SILENCE = 45.0  # seconds in which nothing has come, after which the other side is thought to be gone
PATIENCE = 3.0  # seconds for one before this one to give its port back


class Trunk(asyncio.Protocol):
    """One end of the session: tells the connections on it apart.

    opened is called when the other side has a new connection, and returns a Connection of this side; told is called
    with what the other side says of itself, and over when the session has ended, with the reason.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        opened: "Callable[[int], Connection]",
        told: "Callable[[dict[str, Any]], None]",
        over: "Callable[[str], None]",
    ) -> None:
        self.loop = loop
        self.opened = opened
        self.told = told
        self.over = over
        self.connections = {}  # type: dict[int, Connection]
        self.numbers = 0
        self.came = b""
        self.heard = time.monotonic()
        self.carried = 0  # bytes of connections, both ways
        self.full = False
        self.ended = False
        self.output = None  # type: Any
        self.beats = None  # type: Any

    def begin(self, output: "Any", hello: "dict[str, Any]") -> None:
        """Take the transport on which this side writes, and say hello. Nothing is written before."""
        self.output = output
        self.send(HELLO, 0, json.dumps(hello).encode())
        self._beat()

    def send(self, kind: int, number: int, data: bytes = b"") -> None:
        """Send a frame."""
        if not self.ended:
            self.output.write(HEAD.pack(kind, number, len(data)) + data)

    def add(self, connection: "Connection") -> None:
        """Take a connection that has come to this side."""
        self.numbers += 1
        connection.number = self.numbers
        self.connections[connection.number] = connection
        self.send(OPEN, connection.number)

    def end(self, why: str) -> None:
        """End the session, and all connections on it."""
        if self.ended:
            return
        self.ended = True
        if self.beats is not None:
            self.beats.cancel()
        for each in list(self.connections.values()):
            each.abort()
        self.over(why)

    # --- what the loop says

    def data_received(self, data: bytes) -> None:
        """Take in bytes: whole frames are dealt with, the rest waits."""
        self.heard = time.monotonic()
        came, at = (self.came + data if self.came else data), 0
        while len(came) - at >= HEAD.size:
            kind, number, length = HEAD.unpack_from(came, at)
            if kind > BEAT or length > MAX_FRAME:
                self.end("what came is no frame")
                return
            if len(came) - at < HEAD.size + length:
                break
            try:
                self._take(kind, number, came[at + HEAD.size : at + HEAD.size + length])
            except (ValueError, LookupError, TypeError) as error:
                self.end("what came cannot be read: %r" % error)
                return
            at += HEAD.size + length
        self.came = came[at:]

    def eof_received(self) -> None:
        """Note that the session has ended."""
        self.end("the session has ended")

    def connection_lost(self, exc: "Exception | None") -> None:
        """Note that the session has ended: either direction of it."""
        self.end("the session has ended" + (": %s" % exc if exc else ""))

    def pause_writing(self) -> None:
        """Read no connection while the session takes no more."""
        self.full = True
        for each in self.connections.values():
            each.heed()

    def resume_writing(self) -> None:
        """Read them again."""
        self.full = False
        for each in self.connections.values():
            each.heed()

    def _take(self, kind: int, number: int, data: bytes) -> None:
        connection = self.connections.get(number)
        if kind == HELLO:
            self.told(json.loads(data.decode()))
        elif kind == OPEN:
            self.connections[number] = connection = self.opened(number)
            connection.number = number
        elif connection is None:  # it has just been closed here
            pass
        elif kind == DATA:
            self.carried += len(data)
            connection.give(data)
        elif kind == ROOM:
            connection.room += int(data)
            connection.heed()
        elif kind == CLOSE:
            connection.finish()

    def _beat(self) -> None:
        if time.monotonic() - self.heard > SILENCE:
            self.end("nothing has come for %d s" % SILENCE)
            return
        self.send(BEAT, 0)
        self.beats = self.loop.call_later(BEAT_SECONDS, self._beat)


class Connection(asyncio.Protocol):
    """One end of a connection: what comes here goes to the other side, and what comes there, here."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self.number = 0
        self.transport = None  # type: Any
        self.early = []  # type: list[bytes]  # what came before the transport was there
        self.room = WINDOW  # bytes that the other side takes yet
        self.owed = 0  # bytes that have been read here, of which the other side has not been told
        self.stuck = False  # whether nobody reads here
        self.paused = False
        self.finished = False  # whether the other side has closed it
        self.gone = False

    def give(self, data: bytes) -> None:
        """Take bytes of the other side."""
        self.owed += len(data)
        if self.transport is None:
            self.early.append(data)
        else:
            self.transport.write(data)
            self._tell()

    def finish(self) -> None:
        """Close it: the other side has."""
        self.finished = True
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End it at once."""
        self.gone = True
        if self.transport is not None:
            self.transport.abort()

    def heed(self) -> None:
        """Read while the other side, and the session, take what is read."""
        paused = self.room <= 0 or self.trunk.full
        if self.transport is None or paused == self.paused or self.transport.is_closing():
            return
        self.paused = paused
        (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def _tell(self) -> None:
        if not self.stuck and self.owed >= PIECE:
            self.trunk.send(ROOM, self.number, b"%d" % self.owed)
            self.owed = 0

    # --- what the loop says

    def connection_made(self, transport: "Any") -> None:
        """Take the transport. One that has come here is new on the session."""
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=PIECE)
        if self.gone:
            transport.abort()
            return
        if not self.number:
            self.trunk.add(self)
        early, self.early = self.early, []
        for data in early:
            transport.write(data)
        self._tell()
        self.trunk.loop.call_soon(self.heed)  # Python 3.6 begins to read after this, even if it is told to pause here
        if self.finished:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Send on what has come."""
        for start in range(0, len(data), PIECE):
            self.trunk.send(DATA, self.number, data[start : start + PIECE])
        self.trunk.carried += len(data)
        self.room -= len(data)
        self.heed()

    def connection_lost(self, _: "Exception | None") -> None:
        """Tell the other side that it has ended, if that does not know."""
        if self.trunk.connections.pop(self.number, None) is not None and not self.finished:
            self.trunk.send(CLOSE, self.number)
        self.gone = True

    def pause_writing(self) -> None:
        """Note that nobody reads here."""
        self.stuck = True

    def resume_writing(self) -> None:
        """Note that somebody reads again."""
        self.stuck = False
        self._tell()


def own_addresses() -> "list[str]":
    """Return by which names and addresses others may reach this machine: the likeliest first."""
    found = [socket.getfqdn(), socket.gethostname()]
    told = os.environ.get("SSH_CONNECTION", "").split()
    found += told[2:3]
    try:
        with open("/proc/net/fib_trie", encoding="ascii") as file:  # of IPv4, of all interfaces
            lines = [line.split() for line in file]
        found += [lines[at - 1][1] for at, line in enumerate(lines) if line == ["/32", "host", "LOCAL"]]
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            six = [line.split() for line in file]
        found += [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line[0])) for line in six if line[3] == "00"]
    except (OSError, ValueError, IndexError):
        pass
    loopback = ("127.", "::1", "localhost", "ip6-localhost")
    return [each for each in dict.fromkeys(found) if each and not each.startswith(loopback)][:12]


def end_earlier(key: str) -> None:
    """End relays of this key that are still here: the session of one may have been cut without its knowing."""
    mine = set()  # this process, and the shells that have started it with the same words
    try:
        pid = os.getpid()
        while pid > 1:
            mine.add(str(pid))
            with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        others = [name for name in os.listdir("/proc") if name.isdigit() and name not in mine]
    except OSError:  # this is no Linux
        return
    for name in others:
        try:
            with open("/proc/%s/cmdline" % name, "rb") as words:
                if key.encode() in words.read().split(b"\0"):
                    os.kill(int(name), signal.SIGTERM)
        except OSError:  # it has ended, or is another user's
            pass


def listen(port: int, key: str) -> socket.socket:
    """Return a socket on this port if that can be had, or else on another."""
    deadline = time.monotonic() + PATIENCE
    if port:
        end_earlier(key)
    while True:
        try:
            return listening(port)
        except OSError:
            if not port or time.monotonic() > deadline:
                return listening(0)
        time.sleep(0.05)


def listening(port: int) -> socket.socket:
    """Return a socket that listens on all addresses of this machine."""
    try:
        return listening_at(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
        return listening_at(socket.AF_INET, "", port)  # there is no IPv6


def listening_at(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    """Return a socket that listens there; on "::", on the addresses of IPv4, too."""
    listener = socket.socket(family)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def join(loop: asyncio.AbstractEventLoop, trunk: Trunk, hello: "dict[str, Any]") -> None:
    """Let a trunk read standard input and write standard output: pipes, or one socket, as sshd may give."""
    output = None  # type: Any
    if stat.S_ISSOCK(os.fstat(1).st_mode):
        wire = socket.fromfd(1, socket.AF_UNIX, socket.SOCK_STREAM)
        output, _ = await loop.create_connection(lambda: trunk, sock=wire)
    else:
        output, _ = await loop.connect_write_pipe(lambda: trunk, sys.stdout)
    trunk.begin(output, hello)
    if not os.path.sameopenfile(0, 1):
        await loop.connect_read_pipe(lambda: trunk, sys.stdin)


def main() -> None:
    """Carry connections, until the session ends."""
    port, key = int(sys.argv[1]), sys.argv[2]
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, os._exit, 0)
    listener = listen(port, key)

    trunk = Trunk(loop, lambda _: Connection(trunk), lambda _: None, lambda _: os._exit(0))

    def accepted() -> "asyncio.Protocol":
        if len(trunk.connections) >= MAX_CONNECTIONS:
            return asyncio.Protocol()  # its connection waits, and is given up by who made it
        return Connection(trunk)

    async def begin() -> None:
        await join(loop, trunk, {"port": listener.getsockname()[1], "names": own_addresses()})
        await loop.create_server(accepted, sock=listener)

    loop.run_until_complete(begin())
    loop.run_forever()  # it ends at once, whatever is under way: see over, and the signals


if __name__ == "__main__":
    main()
