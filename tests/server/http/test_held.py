"""The lines of calls that wait for tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sheepdog.server.http.held import Place, Waiting

LONG = 30.0


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 2 * LONG))  # type: ignore[arg-type]


def never() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


def called(*places: Place) -> list[bool]:
    return [place.called.done() for place in places]


def test_as_many_as_there_are_tasks() -> None:
    """The longest first; those of another request not at all."""

    async def test() -> None:
        waiting = Waiting()
        first, second, third = (waiting.place(1) for _ in range(3))
        other = waiting.place(2)
        waiting.ring({1: 2, 2: 0})
        assert called(first, second, third, other) == [True, True, False, False]
        assert await first.wait(LONG, never())
        first.line_up()
        waiting.ring({1: 1, 2: 0})
        assert called(first, second, third) == [False, True, True]

    in_loop(test)


def test_no_ring_is_lost() -> None:
    """Who leaves after it was called lets the next one be called."""

    async def test() -> None:
        waiting = Waiting()
        with waiting.place(1) as first:
            second = waiting.place(1)
            waiting.ring({1: 1})
            assert called(first, second) == [True, False]
        assert called(second) == [True]

    in_loop(test)


def test_who_leaves_is_not_called() -> None:
    async def test() -> None:
        waiting = Waiting()
        with waiting.place(1) as first:
            second = waiting.place(1)
        waiting.ring({1: 1})
        assert called(first, second) == [False, True]

    in_loop(test)


def test_wait_ends() -> None:
    """By time, or when the other end is gone."""

    async def test() -> None:
        waiting = Waiting()
        place = waiting.place(1)
        assert not await place.wait(0.01, never())
        gone = never()
        gone.set_result(None)
        assert not await place.wait(LONG, gone)

    in_loop(test)


def test_request_that_takes_no_more_tasks() -> None:
    """All who wait are called, to be told so."""

    async def test() -> None:
        waiting = Waiting()
        places = [waiting.place(1) for _ in range(3)]
        waiting.ring({2: 5})
        assert called(*places) == [True] * 3
        assert 1 not in waiting.lines

    in_loop(test)


def test_release() -> None:
    async def test() -> None:
        waiting = Waiting()
        places = [waiting.place(number) for number in (1, 2)]
        waiting.release()
        assert called(*places) == [True, True]
        assert waiting.over

    in_loop(test)
