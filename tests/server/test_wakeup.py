"""A server that is woken, and wakes, over real sockets of this machine."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future

from sheepdog.front.wake import WakeUp
from sheepdog.server.wakeup import MAX_LISTENERS, WakeUps
from tests.waiting import until

LONG = 30.0  # seconds: nobody waits so long unless a wake-up is lost


class Looks:
    """What a server does when a program wakes it: each look lasts until it is let go."""

    def __init__(self) -> None:
        self.under_way: list[Future[None]] = []

    def __call__(self) -> Future[None]:
        future: Future[None] = Future()
        self.under_way.append(future)
        return future


def with_wakeups(test: Callable[[WakeUps, Looks], object]) -> None:
    """Run a test, in a thread of its own, beside a server's socket."""

    async def run() -> None:
        looks = Looks()
        wakeups = await WakeUps.open(looks)
        try:
            await asyncio.to_thread(test, wakeups, looks)
        finally:
            wakeups.close()

    asyncio.run(run())


def test_look() -> None:
    """Who wakes the server while it looks has it look once more, however often."""

    def test(wakeups: WakeUps, looks: Looks) -> None:
        program = WakeUp()
        program.look(wakeups.port)
        until(lambda: len(looks.under_way) == 1, "the server has heard it")
        for _ in range(5):
            program.look(wakeups.port)
        program.wait(wakeups.port, 0)
        until(lambda: wakeups.listeners, "the server has heard all that")
        assert wakeups.again
        looks.under_way[0].set_result(None)
        until(lambda: len(looks.under_way) == 2, "the server has heard it")
        looks.under_way[1].set_result(None)
        until(lambda: not wakeups.looking, "the server has heard it")
        assert len(looks.under_way) == 2
        program.close()

    with_wakeups(test)


def test_look_that_fails() -> None:
    """The next wake-up is heard again."""

    def test(wakeups: WakeUps, looks: Looks) -> None:
        program = WakeUp()
        program.look(wakeups.port)
        until(lambda: len(looks.under_way) == 1, "the server has heard it")
        looks.under_way[0].set_exception(OSError("the disk is full"))
        until(lambda: not wakeups.looking, "the server has heard it")
        program.look(wakeups.port)
        until(lambda: len(looks.under_way) == 2, "the server has heard it")
        program.close()

    with_wakeups(test)


def test_listen() -> None:
    """Who waits is told of a commit; who has left is no trouble."""

    async def run() -> None:
        wakeups = await WakeUps.open(Looks())
        one, gone = WakeUp(), WakeUp()
        for each in (one, gone):
            each.wait(wakeups.port, 0.0)
        while len(wakeups.listeners) < 2:
            await asyncio.sleep(0.001)
        gone.close()
        waiting = asyncio.create_task(asyncio.to_thread(one.wait, wakeups.port, LONG))
        began = time.monotonic()
        wakeups.tell()
        wakeups.tell()
        await waiting
        assert time.monotonic() - began < LONG
        one.close()
        wakeups.close()

    asyncio.run(run())


def test_listeners_are_forgotten() -> None:
    """Those that have said nothing for long, and the oldest of very many."""

    async def run() -> None:
        wakeups = await WakeUps.open(Looks())
        for port in range(1, MAX_LISTENERS + 2):
            wakeups.datagram_received(b"listen", ("127.0.0.1", port))
        assert len(wakeups.listeners) == MAX_LISTENERS
        assert ("127.0.0.1", 1) not in wakeups.listeners
        wakeups.listeners = dict.fromkeys(wakeups.listeners, time.monotonic() - 3600)
        wakeups.tell()
        assert not wakeups.listeners
        wakeups.close()

    asyncio.run(run())


def test_other_datagrams() -> None:
    """What is no wake-up makes the server look in vain, and nothing else."""

    async def run() -> None:
        looks = Looks()
        wakeups = await WakeUps.open(looks)
        for data in (b"", b"x" * 65000, b"LISTEN"):
            wakeups.datagram_received(data, ("127.0.0.1", 9))
        assert len(looks.under_way) == 1
        assert not wakeups.listeners
        wakeups.close()

    asyncio.run(run())
