"""A run whose every outcome is accounted for: its tasks, and a worker that writes down what it was told is stored."""

import collections
import contextlib
import http.client
import os
import pickle
import signal
import sqlite3
import ssl
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from sheepdog import client
from sheepdog.server.life import Server
from sheepdog.storage import Storage
from sheepdog.storage.schema import SPAN
from tests.disk import faulty_disk
from tests.local import servers_of
from tests.waiting import until

DB = "sheepdog.sqlite"
SEED = 20_240_229
needs_sqlite = pytest.mark.skipif(
    not faulty_disk.possible(), reason="this Python's SQLite shows no functions to ctypes"
)


def kill_server(place: Path) -> None:
    """Kill the server's process, even if it is only coming up; return when its lock is free."""
    for pid in servers_of(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not servers_of(place) and not Server(dbfile=DB).running, "the server is dead, and its lock free")


def work(i: int, mark: str, seconds: float = 0.003, gate: int = 0) -> int:
    """Leave a mark, and return the square. At a gate, wait until the server was killed often enough."""
    import os

    while gate > 0 and os.path.getsize(mark + ".kills") < gate:
        time.sleep(0.01)
    time.sleep(seconds)
    file = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b"%d\n" % i)
    os.close(file)
    return i * i


def ran(place: Path) -> list[int]:
    return [int(line) for line in (place / "ran").read_text().split()]


def check_runs(place: Path, count: int, talker: "Talker") -> int:
    """Each task ran once. Only one of the talker's may run again: no scheduler tells the server to wait for it."""
    runs = collections.Counter(ran(place))
    twice = {i for i, times in runs.items() if times > 1}
    assert runs.keys() == set(range(count))
    assert twice <= talker.ran
    return len(twice)


def check_results(request_id: int, count: int, dbfile: str = DB) -> None:
    """Each task has ended once, with its own result."""
    results = sheepdog.get_results(request_id, dbfile)
    assert sheepdog.get_errors(request_id, dbfile) == []
    assert [result for _, result in results] == [i * i for i in range(count)]
    with Storage(dbfile) as storage:
        assert storage.db.execute("SELECT count(*) FROM outcome").fetchone() == (count,)
        assert storage.progress(request_id).done == count


def start_many(place: Path, count: int, **config: Any) -> int:
    args = [(i, str(place / "ran"), 0.005) for i in range(count)]
    return sheepdog.map_async(work, args, {"workers": 2, **config})


class Talker(threading.Thread):
    """A worker in this process, which writes down what it was told is stored."""

    def __init__(self, request_id: int, dbfile: str = DB) -> None:
        super().__init__(daemon=True)
        self.request_id = request_id
        self.name = uuid.uuid4().hex
        with Storage(dbfile) as storage:
            self.token = storage.get_request(request_id).token
            storage.db.execute(
                "UPDATE array_job SET workers = workers + 1"
            )  # after a restart the server waits for so many
            self.port = storage.get_setting("port")
            self.context = ssl.create_default_context(cadata=storage.get_setting("certificate"))
        self.context.check_hostname = False
        self.acknowledged: dict[int, bytes] = {}
        self.stored = 0
        self.ran: set[int] = set()
        self.over = threading.Event()
        self.connection: http.client.HTTPSConnection | None = None

    def run(self) -> None:
        outcomes: list[client.Outcome] = []
        calls = 0
        while not self.over.is_set():
            calls += 1
            try:
                reply, arguments = self.exchange(calls, outcomes)
            except (OSError, http.client.HTTPException, ValueError):
                self.hang_up()
                self.over.wait(0.05)
                continue
            self.stored += reply["stored"]
            self.acknowledged.update((outcome.task, outcome.value) for outcome in outcomes)
            if reply.get("stop"):
                return
            self.over.wait(reply.get("wait", 0.0))
            outcomes = []
            for (index, attempt), blob in zip(reply["tasks"], arguments, strict=True):
                args, _ = pickle.loads(blob)
                if not self.may_pass(*args[3:]):
                    return
                self.ran.add(args[0])
                value = client.dump(work(*args))
                outcomes.append(client.Outcome(index, attempt, client.RESULT, 0.001, value, b"", 0, None, 0))

    def exchange(self, number: int, outcomes: list[client.Outcome]) -> tuple[dict[str, Any], list[bytes]]:
        header = {"worker": self.name, "host": "here", "pid": os.getpid(), "element": "talker", "array": 1}
        header |= {"call": number, "want": 5, "holding": [], "leaving": None}
        header["outcomes"] = [[o.task, o.attempt, o.kind, o.seconds] for o in outcomes]
        blobs = [blob for outcome in outcomes for blob in (outcome.value, outcome.output)]
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)
        body = b"".join([client.pack(header, [len(blob) for blob in blobs]), *blobs])
        path = f"/requests/{self.request_id}/exchange"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/x-sheepdog"}
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        if answer.status != 200:
            raise OSError(answer.read())
        reply = client.unpack(answer)
        found = [client.read_blob(answer, length) for length in reply["blobs"]]
        answer.read()
        return reply, found

    def may_pass(self, gate: int = 0) -> bool:
        """Wait at a gate, as `work` does, unless it is time to stop."""
        while gate and os.path.getsize("ran.kills") < gate:
            if self.over.wait(0.01):
                return False
        return True

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def __enter__(self) -> "Talker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
        self.hang_up()


def lost(acknowledged: dict[int, bytes], request_id: int, db: sqlite3.Connection) -> list[int]:
    """Return the tasks whose outcome is not there, or another one, although it was acknowledged."""
    rows = db.execute("SELECT id, value FROM outcome WHERE id / ? = ?", (SPAN, request_id))
    stored = {row % SPAN: value for row, value in rows}
    return [index for index, value in acknowledged.items() if stored.get(index) != value]
