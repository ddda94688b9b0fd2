"""The server process: carries bytes between the workers and the service, and goes when there is nothing left to do.

    event loop    TLS, HTTP, sizes, tokens          (http/, on uvicorn)
    writer        the service and the only writing connection: many calls, one commit, then the replies
    scheduling    asks the schedulers what became of the array jobs

Each is a thread; they meet in the writer's queue.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import resource
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import ServerError
from ..printable import Printable
from ..storage import Storage
from ..storage.file import located
from ..values import wakeup
from ..values.model import RequestState
from .decide.service import Service
from .http.app import App
from .http.tls import make_context
from .http.uvicorn_server import Acceptor
from .life import Server, file_number, sign, take_lock
from .wakeup import WakeUps
from .writer import Writer

if TYPE_CHECKING:
    from .scheduling.thread import Scheduling

log = logging.getLogger(__name__)

LINGER = 10.0  # seconds without an unfinished request after which the process ends
SOON = 0.2  # seconds from its start until it begins with what takes a scheduler: the first worker is served before


class Seldom(logging.Filter):
    """Lets the same words pass once a minute, and counts the rest: whoever makes them often must not fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: dict[str, tuple[float, int]] = {}  # words -> when, and how often since

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write a record."""
        words, now = str(record.msg), time.monotonic()
        when, count = self.passed.get(words, (-60.0, 0))
        if now - when < 60.0:
            self.passed[words] = when, count + 1
            return False
        if len(self.passed) > 100:
            self.passed.clear()
        self.passed[words] = now, 0
        if count:
            record.msg = f"{words} (and {count} times since this was last said)"
        return True


def serve(dbfile: str, lock: int | None = None, inherited: int | None = None) -> None:
    """Serve until there is nothing left to do, or until SIGTERM."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.raiseExceptions = False  # a log on a full disk is no reason to write more
    dbfile = located(dbfile)
    if lock is None or inherited is None:
        with Storage(dbfile, make=False) as storage:
            storage.require_made_here()
        while (lock := take_lock(dbfile)) is None:  # or somebody only looks
            if (pid := Server(dbfile=dbfile).pid) is not None:
                raise ServerError(f"the server of {dbfile} is running already, as process {pid}")
        with Storage(dbfile, make=False) as storage:
            storage.check()
            listener = Server(dbfile=dbfile).claim(storage)
    else:
        listener = socket.socket(fileno=inherited)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in ("asyncio", "uvicorn.error", "sheepdog.server.http.app"):
        logging.getLogger(name).addFilter(Seldom())
    sys.setswitchinterval(0.0005)  # the loop and the writer pass every call to and fro
    sign(lock, dbfile)
    log.info("serving %s on port %d as process %d", dbfile, listener.getsockname()[1], os.getpid())
    writer = Writer(dbfile, functools.partial(sign, lock, dbfile))
    told = asyncio.run(_run(writer, listener))
    os.close(lock)
    if writer.damage:
        raise writer.damage
    log.info("ended by a signal" if told else "nothing left to do")
    if not file_number(dbfile):
        return  # it has been removed
    with Storage(dbfile, make=False) as storage:
        if storage.requests(RequestState.NEW, RequestState.SUBMITTED) and not told:
            Server(dbfile=dbfile).start(make=False)  # a request came while this process was leaving


async def _run(writer: Writer, listener: socket.socket) -> bool:
    """Serve; return whether a signal ended it."""
    dbfile = writer.dbfile
    app = App(writer, dbfile)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    wakeups = await WakeUps.open(lambda: writer.submit(Service.look_again))
    with Storage(dbfile, make=False) as storage:
        storage.set_settings(**{wakeup.SETTING: wakeups.port})

    def done(changed: bool) -> None:
        if changed:
            wakeups.tell()

    writer.done = done
    writer.start()
    acceptor = Acceptor(app, listener, make_context(dbfile))
    serving = asyncio.ensure_future(acceptor.serve())
    telling = asyncio.ensure_future(told.wait())
    scheduling = asyncio.ensure_future(_schedule(writer, telling))
    while not serving.done():
        await asyncio.wait([serving, telling], timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        if told.is_set() or writer.idle > LINGER or not writer.is_alive():
            app.release()
            acceptor.end()
            await serving
    telling.cancel()
    wakeups.close()
    thread = await scheduling
    thread.stop()
    writer.stop()
    thread.disband(writer.removed)
    return told.is_set()


async def _schedule(writer: Writer, telling: asyncio.Future[Any]) -> Scheduling:
    """Start the thread for the schedulers in a moment, or at once if the process is told to end."""
    await asyncio.wait([telling], timeout=SOON)
    return await asyncio.to_thread(_start_scheduling, writer)


def _start_scheduling(writer: Writer) -> Scheduling:
    from .scheduling.thread import Scheduling  # not at the top: nobody waits for it, but for the server's start

    scheduling = Scheduling(writer)
    scheduling.start()
    return scheduling
