"""Calls that are held until there are tasks of an open request: its workers are idle, and hear of a task at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any


class HeldCall:
    """A call that would take a task, in its request's line. Hold it before you ask for one: so no task is missed."""

    def __init__(self, line: deque[asyncio.Future[None]]) -> None:
        self.line = line
        self.line_up()

    def line_up(self) -> None:
        """Stand at the end of the line, not woken yet."""
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.line.append(self.woken)

    def __enter__(self) -> HeldCall:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave. Who has been woken, and does not ask again, wakes the next."""
        if not self.woken.done():
            self.line.remove(self.woken)
        elif self.line:
            self.line.popleft().set_result(None)

    async def wait(self, seconds: float, gone: asyncio.Future[Any]) -> bool:
        """Wait to be woken, but not for longer than this, nor when the other end is gone. Tell whether it was."""
        await asyncio.wait([self.woken, gone], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self.woken.done()


class HeldCalls:
    """The held calls by request, in each line the longest first. Used in the event loop alone."""

    def __init__(self) -> None:
        self.lines: defaultdict[int, deque[asyncio.Future[None]]] = defaultdict(deque)
        self.over = False

    def hold(self, request_id: int) -> HeldCall:
        """Return a call at the end of a request's line."""
        return HeldCall(self.lines[request_id])

    def wake(self, ready: Mapping[int, int]) -> None:
        """Wake as many as there are tasks ready; all of a request that is not named, for it takes no more tasks."""
        for request_id, line in list(self.lines.items()):
            for _ in range(min(len(line), ready.get(request_id, len(line)))):
                line.popleft().set_result(None)
            if not line and request_id not in ready:
                del self.lines[request_id]

    def release(self) -> None:
        """Hold no call any more: the server is ending."""
        self.over = True
        self.wake({})
