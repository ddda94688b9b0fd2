"""Calls that wait at the server for tasks of an open request: its workers are idle, and hear of a task at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any


class Place:
    """A place in the line of those who would take a task. Take it before you ask for one, so that no call is missed."""

    def __init__(self, line: deque[asyncio.Future[None]]) -> None:
        self.line = line
        self.line_up()

    def line_up(self) -> None:
        """Stand at the end of the line, called by nobody yet."""
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.line.append(self.called)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave. Whoever has been called, and does not ask again, lets the next one be called."""
        if not self.called.done():
            self.line.remove(self.called)
        elif self.line:
            self.line.popleft().set_result(None)

    async def wait(self, seconds: float, gone: asyncio.Future[Any]) -> bool:
        """Wait to be called, but not for longer than this, nor when the other end is gone. Tell whether it was."""
        await asyncio.wait([self.called, gone], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self.called.done()


class Waiting:
    """The lines, by request, in each the longest first. Used in the event loop alone."""

    def __init__(self) -> None:
        self.lines: defaultdict[int, deque[asyncio.Future[None]]] = defaultdict(deque)
        self.over = False

    def place(self, request_id: int) -> Place:
        """Return a place in a request's line."""
        return Place(self.lines[request_id])

    def ring(self, ready: Mapping[int, int]) -> None:
        """Call as many as there are tasks ready; all of a request that is not named, for it takes no more tasks."""
        for request_id, line in list(self.lines.items()):
            for _ in range(min(len(line), ready.get(request_id, len(line)))):
                line.popleft().set_result(None)
            if not line and request_id not in ready:
                del self.lines[request_id]

    def release(self) -> None:
        """Let nobody wait any more: the server is ending."""
        self.over = True
        self.ring({})
