"""Many connections, more than there may be, and no descriptor left."""

import asyncio
import json
import os
import random
import resource
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from sheepdog import client
from sheepdog.server.http.connections import MAX_STRANGERS
from sheepdog.server.http.uvicorn_server import MAX_CONNECTIONS, room
from tests.faults import fault
from tests.waiting import until
from tests.wire import WORKER, Make, Wire, answer, ended


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many descriptors as there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@fault(
    (24, "idle connections"),
    "a thousand idle workers and two hundred slow strangers",
    promise="workers are served in less than two seconds; little memory for each",
)
def test_a_worker_among_a_thousand_idle_and_two_hundred_slow_ones(many_files: None, wire: Wire) -> None:
    with wire.made:
        worker = wire.connect()
        assert wire.exchange(worker)[0] == 200
        before, few = wire.rss(), wire.sockets()
        for _ in range(1000):
            assert wire.exchange(wire.connect())[0] == 200
        idle = (wire.rss() - before) / 1000
        slow = [wire.connect(tls=number % 2 == 0) for number in range(200)]
        for connection in slow[::2]:
            connection.sendall(wire.head(10)[:40])
        until(lambda: wire.sockets() - few >= 1200, "they are all there")
        times = []
        for number in range(100):
            slow[2 * number].sendall(b"x")
            began = time.perf_counter()
            assert wire.exchange(worker if number % 2 else None)[0] == 200
            times.append(time.perf_counter() - began)
        print(f"{idle / 1024:.0f} KiB for an idle connection; a call took {max(times):.3f} s at most")
        assert idle < 100 << 10
        assert sorted(times)[98] < 2.0


@pytest.mark.parametrize("said", ["nothing", "half a hello", "TLS", "half a head"])
@fault(
    (24, "idle connections"),
    "a thousand connections of a stranger, half-open, or with half a call",
    promise="256 of them are kept; workers are served, and new ones come in; what they took of memory is given back",
)
def test_strangers_are_few_and_what_they_took_is_given_back(many_files: None, make: Make, said: str) -> None:
    wire = make().start(connections={"GRACE_SECONDS": 0.5})
    with wire.made, ExitStack() as strangers:
        worker = wire.connect()
        assert wire.exchange(worker)[0] == 200
        before, few = wire.rss(), wire.sockets()
        for _ in range(500 if said in ("TLS", "half a head") else 1000):
            stranger = strangers.enter_context(socket.socket())
            stranger.setblocking(False)
            with suppress(BlockingIOError):
                stranger.connect(("127.0.0.1", wire.port))
            if said == "half a hello":
                with suppress(OSError):
                    stranger.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            if said in ("TLS", "half a head"):
                stranger.settimeout(30)
                tls = strangers.enter_context(wire.context.wrap_socket(stranger))
                tls.sendall(wire.head(10)[:50] if said == "half a head" else b"")
        until(lambda: wire.sockets() - few >= MAX_STRANGERS, "there are as many as there may be")
        assert wire.exchange(worker)[0] == 200
        assert wire.exchange(worker="another")[0] == 200
        assert wire.sockets() - few <= MAX_STRANGERS + 2  # that worker, and one that waits
        took = wire.rss("VmHWM") - before
        strangers.close()
        until(lambda: wire.sockets() <= few + 1, "they have gone")
        until(lambda: wire.rss() - before < took / 2, "what they took is given back")
        print(f"they took {took >> 20} MiB, and {(wire.rss() - before) >> 20} stay")
        assert took < MAX_STRANGERS * (200 << 10)
        assert wire.exchange(worker)[0] == 200


@fault(
    (24, "idle connections"),
    "a thousand workers start at once, and strangers have all places",
    promise="all of them come in",
)
def test_a_thousand_workers_that_start_at_once_come_in(many_files: None, wire: Wire) -> None:
    body = client.pack({**WORKER, "call": 1, "protocol": client.PROTOCOL, "python": client.describe_python()}, [])
    there: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def start(number: int) -> None:
        failures = 0
        call = body.replace(b'"w"', json.dumps(f"{number:03x}").encode())
        call = len(call[4:]).to_bytes(4, "big") + call[4:]
        while True:
            try:
                async with asyncio.timeout(20):
                    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port, ssl=wire.context)
                    there.append((reader, writer))
                    writer.write(wire.head(len(call), "join") + call)
                    assert await reader.readline() in (b"HTTP/1.1 200 OK\r\n", b"")
                    if not reader.at_eof():
                        return
            except (OSError, TimeoutError):
                pass
            failures += 1
            await asyncio.sleep(random.uniform(0.2, 1.0) * 0.25 * 2**failures)  # as a worker does

    async def start_all() -> None:
        await asyncio.gather(*map(start, range(1000)))
        for _, writer in there:
            writer.transport.abort()
        await asyncio.sleep(0)

    with wire.made:
        worker = wire.connect()
        assert wire.exchange(worker)[0] == 200
        for _ in range(MAX_STRANGERS):
            wire.connect(tls=False)
        asyncio.run(start_all())
        assert wire.exchange(worker)[0] == 200


@fault(
    24, "more connections than there may be", promise="workers keep theirs; the oldest stranger makes room, then 503"
)
def test_the_oldest_stranger_makes_room(make: Make) -> None:
    wire = make().start(uvicorn_server={"MAX_CONNECTIONS": 5}, connections={"GRACE_SECONDS": 0.2})
    worker = wire.connect()
    assert wire.exchange(worker)[0] == 200
    strangers = [wire.connect(tls=number % 2 == 0) for number in range(4)]
    others = []
    for stranger in strangers:
        others.append(wire.connect())
        assert wire.exchange(others[-1])[0] == 200
        assert ended(stranger)
    assert wire.exchange(worker)[0] == 200
    for _ in range(2):
        status, body, headers = answer(wire.connect(), wire.head(0))
        assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close"), body
    others.pop().close()
    until(lambda: wire.exchange()[0] == 200, "there is room again")


def test_a_stranger_has_time_to_show_a_token_while_others_wait(make: Make) -> None:
    wire = make().start(connections={"GRACE_SECONDS": 1000.0, "MAX_STRANGERS": 3})
    strangers = [wire.connect() for _ in range(3)]
    waiting = wire.connect(tls=False)
    waiting.settimeout(0.3)
    with pytest.raises(TimeoutError):
        wire.context.wrap_socket(waiting)
    assert wire.exchange(strangers[1])[0] == 200
    assert wire.exchange()[0] == 200, "its place is another's; the one that waited has given up"
    assert wire.exchange(strangers[0])[0] == 200


def test_there_are_fewer_connections_than_descriptors(make: Make) -> None:
    """Beyond those that are told so, they are closed at once, and none is left waiting."""
    wire = make().start(uvicorn_server={"MAX_CONNECTIONS": 1, "SPARE_CONNECTIONS": 2})
    worker = wire.connect()
    assert wire.exchange(worker)[0] == 200
    told = [wire.connect() for _ in range(2)]
    assert ended(wire.connect(tls=False))
    assert [answer(connection, wire.head(0))[0] for connection in told] == [503, 503]
    assert wire.exchange(worker)[0] == 200


def test_how_many_connections_there_may_be() -> None:
    assert room(resource.RLIM_INFINITY) == room(1 << 20) == MAX_CONNECTIONS
    assert room(1024) == 512
    assert room(100) == 50


@fault(24, "the server has no file descriptor left", promise="who is there is answered; who comes waits")
def test_no_descriptor_is_left(wire: Wire) -> None:
    """Who is there is answered; who comes waits."""
    worker = wire.connect()
    assert wire.exchange(worker)[0] == 200
    pid = wire.pid
    assert pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, limits[1]))
    waiting = [wire.connect(tls=False) for _ in range(10)]

    def full() -> bool:
        """Come with one more, as long as there is room: what was in use at the look above may have been given back."""
        if free(pid, used + 3):
            waiting.append(wire.connect(tls=False))
            return False
        return True

    until(full, "no descriptor is left")
    for _ in range(10):
        assert wire.exchange(worker)[0] == 200
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert all(wire.exchange(wire.made.enter_context(wire.context.wrap_socket(one)))[0] == 200 for one in waiting)


def free(pid: int, limit: int) -> list[int]:
    """The descriptors below a limit that a process does not use."""
    return [number for number in range(limit) if not os.path.lexists(f"/proc/{pid}/fd/{number}")]


@pytest.mark.parametrize("own", [False, True], ids=["in the background", "in the foreground"])
def test_no_reply_waits_for_an_acknowledgement(make: Make, own: bool) -> None:
    """Linux delays one by 40 ms: twice in a call, as long as Nagle's algorithm waits for it."""
    wire = make().start(own=own)
    connection = wire.connect()
    durations = []
    for _ in range(40):
        began = time.monotonic()
        assert wire.exchange(connection)[0] == 200
        durations.append(time.monotonic() - began)
    assert statistics.median(durations) < 0.04 * 0.75
