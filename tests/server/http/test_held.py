"""Calls that are held until there are tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sheepdog.server.http.held import HeldCall, HeldCalls

LONG = 30.0


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 2 * LONG))


def never() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


def woken(*calls: HeldCall) -> list[bool]:
    return [call.woken.done() for call in calls]


def test_as_many_as_there_are_tasks() -> None:
    """The longest first; those of another request not at all."""

    async def test() -> None:
        held = HeldCalls()
        first, second, third = (held.hold(1) for _ in range(3))
        other = held.hold(2)
        held.wake({1: 2, 2: 0})
        assert woken(first, second, third, other) == [True, True, False, False]
        assert await first.wait(LONG, never())
        first.line_up()
        held.wake({1: 1, 2: 0})
        assert woken(first, second, third) == [False, True, True]

    in_loop(test)


def test_no_wake_up_is_lost() -> None:
    """Who leaves after it was woken wakes the next."""

    async def test() -> None:
        held = HeldCalls()
        with held.hold(1) as first:
            second = held.hold(1)
            held.wake({1: 1})
            assert woken(first, second) == [True, False]
        assert woken(second) == [True]

    in_loop(test)


def test_who_leaves_is_not_woken() -> None:
    async def test() -> None:
        held = HeldCalls()
        with held.hold(1) as first:
            second = held.hold(1)
        held.wake({1: 1})
        assert woken(first, second) == [False, True]

    in_loop(test)


def test_wait_ends() -> None:
    """By time, or when the other end is gone."""

    async def test() -> None:
        held = HeldCalls()
        call = held.hold(1)
        assert not await call.wait(0.01, never())
        gone = never()
        gone.set_result(None)
        assert not await call.wait(LONG, gone)

    in_loop(test)


def test_request_that_takes_no_more_tasks() -> None:
    """All that are held are woken, to be told so."""

    async def test() -> None:
        held = HeldCalls()
        calls = [held.hold(1) for _ in range(3)]
        held.wake({2: 5})
        assert woken(*calls) == [True] * 3
        assert 1 not in held.lines

    in_loop(test)


def test_release() -> None:
    async def test() -> None:
        held = HeldCalls()
        calls = [held.hold(number) for number in (1, 2)]
        held.release()
        assert woken(*calls) == [True, True]
        assert held.over

    in_loop(test)
