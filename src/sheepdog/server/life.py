"""The server's life: one process for each database file, with the same port and certificate every time.

Whoever needs a server takes the lock beside the database, opens the port, and starts a process that inherits both;
workers may connect before it is up. The lock is held as long as the process lives, so a dead server is noticed by
trying the lock. One of an earlier version is ended, and its workers wait for the next. What the process does is in
main.py.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..client import PROTOCOL
from ..errors import PortInUse, ServerError, StorageError
from ..storage import Storage
from ..storage.file import LOCK, located
from ..storage.schema import MIGRATIONS
from ..values.identity import is_stopped
from ..values.model import RequestState
from ..values.ownership import open_own, read_own
from .certificate import ensure_certificate

LOOPBACK, EVERYWHERE = "127.0.0.1", ""
STOP_SECONDS = 15.0
SIGNED = 4000  # bytes of the lock's file
VERSION = [len(MIGRATIONS), PROTOCOL]
"""Which server this is: the schema that its statements know, and the protocol of its workers. Both only grow."""


class Server:
    """The server of a database file: start() it, stop() it, or use it in a with statement.

    port None is a free one, and the same from then on. password is kept from 0.2, so that two callers who disagree
    learn of it; workers have a token for each request instead. Unless public, only this machine's own workers can
    connect. Raises PortInUse or ServerError, both RuntimeErrors.
    """

    def __init__(
        self,
        port: int | None = None,
        password: str | None = None,
        dbfile: str | os.PathLike[str] = "./sheepdog.sqlite",
        *,
        public: bool = False,
    ) -> None:
        self.wanted = port
        self.password = password
        self.dbfile = located(dbfile)
        self.public = public

    @property
    def port(self) -> int:
        """The port that workers connect to."""
        port = None
        if file_number(self.dbfile):
            with Storage(self.dbfile, make=False) as storage:
                port = storage.get_setting("port")
        if port is None:
            raise ServerError(f"{self.dbfile} has had no server yet: start() one")
        return int(port)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        """The process id, None if there is none."""
        signed = self._signed()
        return None if signed is None else int(signed["pid"])

    @property
    def trouble(self) -> str:
        """What keeps the process from storing outcomes, or an empty text."""
        signed = self._signed()
        if signed is None:
            return ""
        if is_stopped(signed["pid"]):
            return f"the server, process {signed['pid']}, is stopped: kill -CONT {signed['pid']} lets it go on"
        return str(signed["trouble"])

    @property
    def outdated(self) -> bool:
        """Whether the process is of an earlier version: this one may have changed its database under it."""
        signed = self._signed()
        return signed is not None and is_older(signed)

    def _signed(self) -> dict[str, Any] | None:
        """Return what the process wrote into the lock's file, None if nobody holds the lock."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not is_locked(self.dbfile):
                return None
            with suppress(ValueError):
                return dict(json.loads(read_own(lock_file(self.dbfile))))
            time.sleep(0.005)  # somebody is just starting it, or only looking
        raise ServerError(f"the server of {self.dbfile} does not come up: see {log_file(self.dbfile)}")

    def start(self, make: bool = True) -> Server:
        """Start the process, unless it runs already. One of an earlier version is replaced.

        make says whether to make the database if there is none; else that is a StorageError.
        """
        with Storage(self.dbfile, make=make) as storage:
            storage.require_made_here()
            self._check_password(storage)
            while True:
                lock = take_lock(self.dbfile)
                if lock is not None:
                    try:
                        storage.check()
                        self._spawn(storage, lock)
                    finally:
                        os.close(lock)
                    return self
                signed = self._signed()
                if signed is None:
                    continue
                if is_older(signed) or signed.get("file") != file_number(self.dbfile):  # it serves a removed one
                    self.stop()
                    continue
                if self.public and storage.get_setting("address") == LOOPBACK:
                    self.stop()  # it must listen to others too, from now on
                    storage.set_settings(address=EVERYWHERE)
                    continue
                if self.wanted not in (None, storage.get_setting("port")):
                    self._insist_on_nobody_waiting(storage)
                    self.stop()
                    continue
                return self

    def _insist_on_nobody_waiting(self, storage: Storage) -> None:
        """Refuse to change the port while workers know the old one."""
        if storage.requests(RequestState.SUBMITTED):
            port = storage.get_setting("port")
            raise ServerError(
                f"the workers of unfinished requests in {self.dbfile} call port {port}, not {self.wanted}: "
                "leave the option port out, or wait until those requests have ended"
            )

    def stop(self) -> None:
        """End the process. Its workers wait for the next one."""
        pid, started = self.pid, time.monotonic()
        asked = False
        while pid is not None and self.pid == pid:  # if it is another, somebody has started that one meanwhile
            late = time.monotonic() > started + STOP_SECONDS
            if late or not asked:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                asked = True
            time.sleep(0.02)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def claim(self, storage: Storage) -> socket.socket:
        """Open the port, and store it. The caller holds the lock."""
        stored = storage.get_setting("port")
        address = EVERYWHERE if self.public else storage.get_setting("address")
        address = LOOPBACK if address is None else address
        if stored is not None and self.wanted not in (None, stored):
            self._insist_on_nobody_waiting(storage)
        port = self.wanted or stored or 0
        try:
            listener = _listen(address, port)
        except OverflowError as error:
            raise ServerError(f"port is {port}; it must be from 1 to 65535") from error
        except OSError as error:
            if self.wanted is None and not storage.get_setting("port_wanted"):
                listener = _listen(address, 0)  # who calls the old one is told: see scheduling/
            else:
                state = "is taken" if error.errno == errno.EADDRINUSE else "cannot be used"
                raise PortInUse(
                    f"port {port} of this machine {state} ({error.strerror}): choose another with the option port, "
                    "leave it out for a free one, or end the program that listens there"
                ) from error
        storage.set_settings(port=listener.getsockname()[1], address=address)
        if self.wanted is not None:
            storage.set_settings(port_wanted=1)  # its user has a reason, such as a firewall
        return listener

    def _spawn(self, storage: Storage, lock: int) -> None:
        with self.claim(storage) as listener:
            descriptors = (lock, listener.fileno())
            package = str(Path(__file__).parent.parent.parent)
            path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
            command = [sys.executable, "-P", "-m", "sheepdog", "serve", self.dbfile, *map(str, descriptors)]
            with open(log_file(self.dbfile), "ab", opener=open_own) as log:
                subprocess.run(  # sh goes away: the process is nobody's child to wait for
                    ["/bin/sh", "-c", '"$@" &', "sh", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=descriptors,
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": path},
                    check=True,
                )
            ensure_certificate(storage)  # while the process is coming up: it takes its time too

    def _check_password(self, storage: Storage) -> None:
        if self.password is None:
            return
        digest = hashlib.sha256(f"{self.dbfile}\0{self.password}".encode()).hexdigest()
        stored = storage.get_setting("password")
        if stored is None or not self.running:
            storage.set_settings(password=digest)
        elif stored != digest:
            raise ServerError(f"the server of {self.dbfile} was started with another password")


def get_server(
    port: int | None = None, password: str | None = None, dbfile: str | os.PathLike[str] = "./sheepdog.sqlite"
) -> Server:
    """Start the server of a database file, or return the running one.

    RuntimeError if it runs with another password or port, or if something else listens on that port.
    """
    return Server(port, password, dbfile).start()


def lock_file(dbfile: str) -> Path:
    """Return the file whose lock the server holds; it says which process that is."""
    return Path(f"{dbfile}{LOCK}")


def log_file(dbfile: str) -> Path:
    """Return the file into which the server writes what it does."""
    return Path(f"{dbfile}-server.log")


def take_lock(dbfile: str) -> int | None:
    """Return a descriptor with the lock, or None if a server has it."""
    try:
        descriptor = open_own(lock_file(dbfile), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StorageError(f"{lock_file(dbfile)} cannot be made: {error.strerror}; choose another dbfile") from error
    if not _lock(descriptor):
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    return descriptor


def is_locked(dbfile: str) -> bool:
    """Tell whether a server has the lock. Nothing is made or changed: it may be a database to be read only.

    Who only looks shares the lock with others who look: none takes another for a server.
    """
    try:
        descriptor = open_own(lock_file(dbfile), os.O_RDWR)  # NFS locks only what can be written
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{lock_file(dbfile)} cannot be read: {error.strerror}") from error
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sign(lock: int, dbfile: str, trouble: str = "") -> None:
    """Write into the lock's file which process this is, of which version and database, and what keeps it from storing.

    The file keeps its size: on a full disk it can be written over, but not grow.
    """
    said = {"pid": os.getpid(), "version": VERSION, "file": file_number(dbfile), "trouble": trouble[:400]}
    try:
        os.pwrite(lock, json.dumps(said).ljust(SIGNED).encode(), 0)
    except OSError as error:
        raise StorageError(f"{lock_file(dbfile)} cannot be written: {error.strerror}") from error


def is_older(signed: Mapping[str, Any]) -> bool:
    """Tell whether a process is of an earlier version than this program. The first versions did not sign theirs."""
    return list(signed.get("version", [])) < VERSION


def file_number(dbfile: str) -> int:
    """Return what tells a database from another one of the same name; 0 if there is none."""
    try:
        return os.stat(dbfile).st_ino
    except OSError:
        return 0


def _listen(address: str, port: int) -> socket.socket:
    if address == EVERYWHERE and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    return socket.create_server((address, port), backlog=1024)
