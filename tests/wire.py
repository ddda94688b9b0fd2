"""A real server and raw connections to it, for the tests of what comes over the wire."""

import http.client
import itertools
import json
import os
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from sheepdog import client
from sheepdog.server.certificate import ensure_certificate
from sheepdog.server.http.app import MEDIA_TYPE
from sheepdog.server.life import Server, log_file
from sheepdog.storage import Storage
from sheepdog.values.serialisation import form
from tests.waiting import until

SERVE = """
import importlib, json, sys
dbfile, figures, missing = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(missing))
for room in ("connections", "uvicorn_server", "body", "tokens", "app"):
    names = vars(importlib.import_module("sheepdog.server.http." + room))
    assert figures.get(room, {}).keys() <= names.keys(), (room, figures)
    names.update(figures.get(room, {}))
importlib.import_module("sheepdog.server.main").serve(dbfile)
"""


def wide_rows() -> bool:
    """Tell whether this Python's sqlite3 reads and writes large values in pieces: 3.11.2 and older do not."""
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value BLOB)")
        db.execute("INSERT INTO t VALUES (?, ?)", (1 << 32, b"x"))
        try:
            db.blobopen("t", "value", 1 << 32).close()
        except OverflowError:
            return False
    return True


WORKER = {"worker": "w", "want": 0, "holding": [], "outcomes": []}


class Wire:
    """A server, and connections to it on which a test may do whatever it likes."""

    def __init__(self, dbfile: Path, tasks: int = 10, args: bytes = b"args") -> None:
        self.dbfile = dbfile
        self.made = ExitStack()
        self.calls = itertools.count(1)
        with Storage(dbfile) as storage:
            storage.initdb()
            options = {"lease": 150.0}
            self.request = storage.new_request(b"function", b"", [args] * tasks, form=form(), options=options)
            self.token = storage.get_request(self.request).token
            ensure_certificate(storage)

    def start(self, missing: tuple[str, ...] = (), own: bool = False, **figures: dict[str, Any]) -> "Wire":
        """Start the server; with other figures than usual, or without some module, as a process of this test's."""
        server = Server(dbfile=self.dbfile)
        if figures or missing or own:
            argument = json.dumps([str(self.dbfile), figures, missing])
            with open(log_file(str(self.dbfile)), "wb") as log:
                self.process = subprocess.Popen([sys.executable, "-c", SERVE, argument], stderr=log)
            self.made.callback(self.process.wait)
            self.made.callback(self.process.kill)
        else:
            server.start()
            self.made.callback(server.stop)
        until(lambda: "serving" in self.log() and server.running, "the server serves")  # to look takes its lock
        self.pid = server.pid
        self.port = server.port
        with Storage(self.dbfile) as storage:
            self.context = ssl.create_default_context(cadata=storage.get_setting("certificate"))
        self.context.check_hostname = False
        return self

    def log(self) -> str:
        """What the server has written."""
        return log_file(str(self.dbfile)).read_text()

    def connect(self, tls: bool = True) -> socket.socket:
        """Return a new connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), 30)
        self.made.callback(connection.close)
        return self.made.enter_context(self.context.wrap_socket(connection)) if tls else connection

    def head(self, length: Any, verb: str = "exchange", token: str | None = None, **headers: str | None) -> bytes:
        """Return the head of a call; a header that is None is left out."""
        headers = {
            "Host": "anything",
            "Authorization": f"Bearer {token or self.token}",
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(length),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([f"POST /requests/{self.request}/{verb} HTTP/1.1", *lines, "\r\n"]).encode()

    def exchange(self, connection: socket.socket | None = None, **header: Any) -> tuple[int, bytes]:
        """Make a call as a worker does; return status and body."""
        body = client.pack({**WORKER, "call": next(self.calls), **header}, [])
        return answer(connection or self.connect(), self.head(len(body)) + body)[:2]

    def rss(self, line: str = "VmRSS") -> int:
        """Bytes of memory that the server has, or had at most (VmHWM)."""
        found = re.search(rf"{line}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return 1024 * int(found[1])

    def sockets(self) -> int:
        """How many sockets the server has open."""
        links = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                links.append(os.readlink(link))
        return sum(link.startswith("socket:") for link in links)


Make = Callable[..., Wire]
"""Makes a request, and a Wire to a server of it that is to be started."""


def answer(connection: socket.socket, data: bytes = b"") -> tuple[int, bytes, dict[str, str]]:
    """Send these bytes; return status, body and headers of what comes back."""
    connection.sendall(data)
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply.status, reply.read(), {name.lower(): value for name, value in reply.getheaders()}


def ended(connection: socket.socket) -> bool:
    """Whether the other end hangs up, without a word, within a time."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
