"""Rings between programs and a server, over real sockets of this machine."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from sheepdog.server.doorbell import MAX_LISTENERS, Bell, Doorbell

LONG = 30.0  # seconds: nobody waits so long unless a ring is lost


class Looks:
    """What a server does when somebody rings: each look lasts until it is let go."""

    def __init__(self) -> None:
        self.under_way: list[Future[None]] = []

    def __call__(self) -> Future[None]:
        future: Future[None] = Future()
        self.under_way.append(future)
        return future


def with_doorbell(test: Callable[[Doorbell, Looks], object]) -> None:
    """Run a test, in a thread of its own, beside a server's end of the bell."""

    async def run() -> None:
        looks = Looks()
        doorbell = await Doorbell.open(looks)
        try:
            await asyncio.to_thread(test, doorbell, looks)
        finally:
            doorbell.close()

    asyncio.run(run())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_wake() -> None:
    """Another thread's ring ends the waiting, also one that came before."""
    bell = Bell()
    try:
        bell.wake()
        began = time.monotonic()
        bell.wait(None, LONG)
        timer = threading.Timer(0.05, bell.wake)
        timer.start()
        bell.wait(None, LONG)
        assert time.monotonic() - began < LONG
        timer.join()
        bell.wait(None, 0.01)  # there is no third one
    finally:
        bell.close()


def test_look() -> None:
    """Whoever rings while the server looks has it look once more, however often it rang."""

    def test(doorbell: Doorbell, looks: Looks) -> None:
        bell = Bell()
        bell.look(doorbell.port)
        until(lambda: len(looks.under_way) == 1)
        for _ in range(5):
            bell.look(doorbell.port)
        until(lambda: doorbell.again)
        looks.under_way[0].set_result(None)
        until(lambda: len(looks.under_way) == 2)
        looks.under_way[1].set_result(None)
        until(lambda: not doorbell.looking)
        assert len(looks.under_way) == 2
        bell.close()

    with_doorbell(test)


def test_look_that_fails() -> None:
    """The next ring is heard again."""

    def test(doorbell: Doorbell, looks: Looks) -> None:
        bell = Bell()
        bell.look(doorbell.port)
        until(lambda: len(looks.under_way) == 1)
        looks.under_way[0].set_exception(OSError("the disk is full"))
        until(lambda: not doorbell.looking)
        bell.look(doorbell.port)
        until(lambda: len(looks.under_way) == 2)
        bell.close()

    with_doorbell(test)


def test_listen() -> None:
    """Who waits is told of a commit; who has left is no trouble."""

    async def run() -> None:
        doorbell = await Doorbell.open(Looks())
        bell, gone = Bell(), Bell()
        for one in (bell, gone):
            one.wait(doorbell.port, 0.0)
        while len(doorbell.listeners) < 2:
            await asyncio.sleep(0.001)
        gone.close()
        waiting = asyncio.create_task(asyncio.to_thread(bell.wait, doorbell.port, LONG))
        began = time.monotonic()
        doorbell.tell()
        doorbell.tell()
        await waiting
        assert time.monotonic() - began < LONG
        bell.close()
        doorbell.close()

    asyncio.run(run())


def test_listeners_are_forgotten() -> None:
    """Those that have said nothing for long, and the oldest of very many."""

    async def run() -> None:
        doorbell = await Doorbell.open(Looks())
        for port in range(1, MAX_LISTENERS + 2):
            doorbell.datagram_received(b"listen", ("127.0.0.1", port))
        assert len(doorbell.listeners) == MAX_LISTENERS
        assert ("127.0.0.1", 1) not in doorbell.listeners
        doorbell.listeners = dict.fromkeys(doorbell.listeners, time.monotonic() - 3600)
        doorbell.tell()
        assert not doorbell.listeners
        doorbell.close()

    asyncio.run(run())


def test_other_datagrams() -> None:
    """What is no ring makes the server look in vain, and nothing else."""

    async def run() -> None:
        looks = Looks()
        doorbell = await Doorbell.open(looks)
        for data in (b"", b"x" * 65000, b"LISTEN"):
            doorbell.datagram_received(data, ("127.0.0.1", 9))
        assert len(looks.under_way) == 1
        assert not doorbell.listeners
        doorbell.close()

    asyncio.run(run())
