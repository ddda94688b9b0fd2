"""Sheepdog is upgraded while a server of the version before runs: the next of its programs replaces that server."""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from sheepdog import client
from sheepdog.front.waiting import Keeper
from sheepdog.server.life import STOP_SECONDS, VERSION, Server, lock_file, take_lock
from sheepdog.storage import Storage
from tests.faults import fault
from tests.waiting import until
from tests.wire import Wire, answer

pytestmark = pytest.mark.slow


@pytest.fixture
def dbfile(tmp_path: Path) -> Iterator[str]:
    """A database, whose server is ended after the test."""
    dbfile = tmp_path / "db"
    yield str(dbfile)
    Server(dbfile=dbfile).stop()


@pytest.fixture
def wire(servers: None, tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path / "db")
    with wire.made:
        yield wire.start()


def running(dbfile: str) -> Server:
    server = Server(dbfile=dbfile).start()
    until(lambda: server.pid, "the server has written its process id")
    return server


def say_version(dbfile: str, version: list[int] | None) -> None:
    """Let a running server have signed as one of this version does; None is one that did not sign it."""
    signed = json.loads(lock_file(dbfile).read_text())
    del signed["version"]
    text = json.dumps(signed if version is None else {**signed, "version": version})
    with lock_file(dbfile).open("r+") as file:
        file.write(text.ljust(4000))


EARLIER = [None, [VERSION[0] - 1, VERSION[1]], [VERSION[0], VERSION[1] - 1]]


@pytest.mark.parametrize("version", EARLIER, ids=str)
def test_a_server_of_an_earlier_version_is_replaced(dbfile: str, version: list[int] | None) -> None:
    """By one on the same port, with the same certificate."""
    server = running(dbfile)
    with Storage(dbfile) as storage:
        before = server.port, storage.get_setting("certificate")
        old = server.pid
        assert not server.outdated
        say_version(dbfile, version)
        assert server.outdated
        assert running(dbfile).pid != old
        assert not server.outdated
        assert (server.port, storage.get_setting("certificate")) == before
    assert running(dbfile).pid == server.pid


def test_a_server_of_a_later_version_stays(dbfile: str) -> None:
    """Else two programs of different versions would end each other's server for ever."""
    server = running(dbfile)
    old = server.pid
    say_version(dbfile, [VERSION[0], VERSION[1] + 1])
    assert not server.outdated
    assert running(dbfile).pid == old


def test_who_waits_replaces_it_too(dbfile: str) -> None:
    server = running(dbfile)
    old = server.pid
    say_version(dbfile, None)
    keeper = Keeper(dbfile)
    keeper.looked -= 2.0  # it looks once a second
    assert keeper.look() == ""
    assert server.pid != old
    assert not server.outdated
    keeper.looked -= 2.0
    now = server.pid
    assert keeper.look() == ""
    assert server.pid == now


def test_stop_leaves_alone_whoever_follows(dbfile: str) -> None:
    """Two programs may replace an old server at once: the new one of the first is not the second's to end."""
    old, new = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
    lock = take_lock(dbfile)
    assert lock is not None
    try:
        os.pwrite(lock, json.dumps({"pid": old.pid}).ljust(100).encode(), 0)
        stopping = threading.Thread(target=Server(dbfile=dbfile).stop)
        stopping.start()
        old.wait()
        os.pwrite(lock, json.dumps({"pid": new.pid}).ljust(100).encode(), 0)
        stopping.join(STOP_SECONDS / 2)
        assert not stopping.is_alive()
        assert new.poll() is None
    finally:
        os.close(lock)
        for process in (old, new):
            process.kill()
            process.wait()


@fault(
    1,
    "Sheepdog is upgraded while a request runs: the server is of the version before",
    promise="whoever waits, looks or acts replaces the server; the workers go on with the next, and no task runs twice",
)
def test_a_request_that_runs_goes_on(dbfile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ran = tmp_path / "ran"

    def work(number: int) -> tuple[int, int]:
        time.sleep(0.05)
        with ran.open("a") as file:
            file.write(f"{number}\n")
        return number, os.getppid()

    config = {"dbfile": dbfile, "scheduler": "local", "workers": 2}
    request = sheepdog.map_async(work, [(number,) for number in range(60)], config)
    try:
        until(lambda: ran.exists() and len(ran.read_text().split()) > 5, "some have run")
        old = Server(dbfile=dbfile).pid
        say_version(dbfile, None)
        sheepdog.get_results(request, dbfile, block=False)  # a look is enough
        assert Server(dbfile=dbfile).pid != old
        results = sheepdog.get_results(request, dbfile)
        assert [result[0] for _, result in results] == list(range(60))
        assert len({result[1] for _, result in results}) <= 2  # the workers that there were
        assert set(Counter(ran.read_text().split()).values()) == {1}
    finally:
        sheepdog.cancel(request, dbfile)


def test_workers_of_the_version_before_are_served(wire: Wire) -> None:
    """They speak the same protocol, and call their array job a wave."""
    about: dict[str, Any] = {
        "worker": "w",
        "protocol": 2,
        "python": client.describe_python(),
        "wave": 1,
        "host": "h",
        "element": "1",
    }
    body = client.pack(about, [])
    assert answer(wire.connect(), wire.head(len(body), "join") + body)[0] == 200
    status, reply = wire.exchange(**about, want=2)
    assert status == 200
    assert reply.count(b"args") == 2
