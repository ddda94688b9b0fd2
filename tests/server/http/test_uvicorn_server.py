"""Many connections, more than there may be, and no descriptor left."""

import os
import resource
import time
from pathlib import Path

import pytest

from sheepdog.server.http.uvicorn_server import MAX_CONNECTIONS, room
from tests.faults import fault
from tests.waiting import until
from tests.wire import Make, Wire, answer, ended


@fault(
    (24, "idle connections"),
    "a thousand idle connections and five hundred slow ones",
    promise="workers are served in less than two seconds; little memory for each",
)
def test_a_worker_among_a_thousand_idle_and_five_hundred_slow_ones(wire: Wire) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        worker = wire.connect()
        assert wire.exchange(worker)[0] == 200
        before, few = wire.rss(), wire.sockets()
        for _ in range(1000):
            wire.connect()
        idle = (wire.rss() - before) / 1000
        slow = [wire.connect(tls=number % 2 == 0) for number in range(500)]
        for connection in slow[::2]:
            connection.sendall(wire.head(10)[:40])
        until(lambda: wire.sockets() - few >= 1500, "they are all there")
        times = []
        for number in range(100):
            slow[2 * number].sendall(b"x")
            began = time.perf_counter()
            assert wire.exchange(worker if number % 2 else None)[0] == 200
            times.append(time.perf_counter() - began)
        print(f"{idle / 1024:.0f} KiB for an idle connection; a call took {max(times):.3f} s at most")
        assert idle < 300 << 10
        assert sorted(times)[98] < 2.0
    finally:
        wire.made.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@fault(
    24, "more connections than there may be", promise="workers keep theirs; the oldest stranger makes room, then 503"
)
def test_the_oldest_stranger_makes_room(make: Make) -> None:
    wire = make().start(uvicorn_server={"MAX_CONNECTIONS": 5})
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
    began = time.monotonic()
    for _ in range(40):
        assert wire.exchange(connection)[0] == 200
    assert time.monotonic() - began < 40 * 0.04 * 0.75
