"""The relay of one head node: workers that cannot reach this machine call it there. See client/relay.py.

A thread keeps it while it is wanted: when its session breaks, it is started again, on the same port if that is free.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shlex
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..client import relay
from ..client.relay import Connection, Trunk
from ..errors import HostError
from .session import Session
from .ssh import SSHHost

log = logging.getLogger(__name__)

PROGRAM = "import sys;exec(compile(sys.stdin.buffer.read(int(sys.argv[3])),'relay','exec'))"
FIT = "import sys;sys.exit(sys.version_info<(3,6))"
BEGINNING = 30.0  # seconds that it may take to begin
SHORTEST, LONGEST = 1.0, 60.0  # seconds from one try to the next
REFUSED = 600.0  # ... after the login was refused
STEADY = 60.0  # seconds after which it is thought to hold


class Relay(threading.Thread):
    """Keeps a relay on a host, for the server on this port of this machine.

    pythons are commands of Pythons there, quoted for a shell: the first that is 3.6 or newer is taken. server names the
    server, and which of its relays this is. urls are the addresses by which workers reach it: those of one before, at
    whose port it is to be, until it has begun. trouble is why it does not work.
    """

    def __init__(self, host: SSHHost, pythons: Sequence[str], port: int, server: str, urls: Sequence[str] = ()) -> None:
        super().__init__(name=f"relay {host.name}", daemon=True)
        self.host = host
        self.pythons = pythons
        self.port = port
        self.key = "sheepdog-" + hashlib.sha256(f"{os.uname().nodename}\0{server}".encode()).hexdigest()[:16]
        self.urls = tuple(urls)
        self.works = False
        self.trouble = ""
        self._over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def last_port(self) -> int:
        """The port on which it listens, or did; 0 if there is none yet."""
        return int(self.urls[0].rpartition(":")[2]) if self.urls else 0

    def leave(self) -> None:
        """End it, without waiting for that."""
        self._over.set()
        loop, ended = self._loop, self._ended
        if loop is not None and ended is not None:
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:  # it has ended
                pass

    def run(self) -> None:
        """Keep it, until told to leave."""
        pause = SHORTEST
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                with self._open() as session:
                    self.trouble = asyncio.run(self._carry(session))
            except HostError as error:
                self.trouble = str(error)
            except Exception as error:
                log.exception("the relay on %s failed", self.host.name)
                self.trouble = repr(error)
            if self._over.is_set():
                return
            log.warning("the relay on %s ended: %s", self.host.name, self.trouble)
            pause = SHORTEST if time.monotonic() - begun > STEADY else min(LONGEST, 2 * pause)
            self._over.wait(REFUSED if "Permission denied" in self.trouble else pause)

    def _open(self) -> Session:
        """Start the program on the host."""
        text = Path(relay.__file__).read_bytes()
        tries = "".join(
            f"if {each} -c '{FIT}' </dev/null 2>/dev/null; then exec {each} -I -c \"$@\"; fi; " for each in self.pythons
        )
        none = f"none of these is a Python there, 3.6 or newer: {', '.join(self.pythons)}"
        script = f"{tries}echo {shlex.quote(none)} >&2; exit 127"
        return self.host.open(["sh", "-c", script, "sh", PROGRAM, str(self.last_port), self.key, str(len(text))], text)

    async def _carry(self, session: Session) -> str:
        """Carry what comes, until it ends; return why."""
        loop = self._loop = asyncio.get_running_loop()
        ended = self._ended = asyncio.Event()
        if self._over.is_set():
            return ""
        why: list[str] = []
        told: asyncio.Future[dict[str, Any]] = loop.create_future()

        def hello(said: dict[str, Any]) -> None:
            """Answer it: nothing goes there before, and something of a connection may come at once."""
            if not told.done():
                trunk.begin(output, {})
                told.set_result(said)

        def over(reason: str) -> None:
            why.append(reason)
            ended.set()
            if not told.done():
                told.set_exception(HostError(session.words() or reason))

        trunk = Trunk(loop, lambda number: self._opened(trunk, number), hello, over)
        output, _ = await loop.connect_write_pipe(lambda: trunk, session.input)
        pipes: list[asyncio.BaseTransport] = [output]
        try:
            if session.early:
                trunk.data_received(session.early)
            pipes.append((await loop.connect_read_pipe(lambda: trunk, session.output))[0])
            said = await asyncio.wait_for(told, BEGINNING)
            self.urls = tuple(
                f"relay://{f'[{name}]' if ':' in name else name}:{said['port']}" for name in said["names"]
            )
            self.works, self.trouble = True, ""
            log.info("workers may call %s", " or ".join(self.urls))
            await ended.wait()
            return session.words() or (why or [""])[0]
        except TimeoutError:
            return f"it does not begin within {BEGINNING:g} s"
        finally:
            self.works = False
            trunk.end("it is no longer wanted")
            for pipe in pipes:
                pipe.close()
            await asyncio.sleep(0)  # so that all that was open is closed

    def _opened(self, trunk: Trunk, number: int) -> Connection:
        """Connect to the server for a connection that has come to the relay."""
        connection = Connection(trunk)

        async def connect() -> None:
            try:
                await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self.port)
            except OSError:
                trunk.send(relay.CLOSE, number)
                trunk.connections.pop(number, None)

        task = asyncio.get_running_loop().create_task(connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection
