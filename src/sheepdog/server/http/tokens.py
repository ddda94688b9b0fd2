"""The tokens that calls show: looked up at most once a second, and never refused without a look."""

from __future__ import annotations

import asyncio
import hmac
import math
import os
from collections.abc import Awaitable, Callable

LOOK_SECONDS = 1.0  # from one look at a request's token to the next
MANY_LOOKS = 1000  # that are remembered; the old ones go then


class Tokens:
    """The tokens of requests. ask says what a request's is now."""

    def __init__(self, ask: Callable[[int], Awaitable[str | None]]) -> None:
        self.ask = ask
        self.known: dict[int, str] = {}
        self.looks: dict[int, tuple[float, asyncio.Future[None]]] = {}  # when the latest began, and its end

    async def fit(self, request_id: int, shown: str) -> bool:
        """Tell whether this is the token of a request. The answer is no only after a look later than the question."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        while not same(self.known.get(request_id), shown):
            began, look = self.looks.get(request_id, (-math.inf, None))
            if look and not look.done():
                await asyncio.wait([look])
            elif look and began >= asked:
                look.result()
                return False
            elif (pause := began + LOOK_SECONDS - clock()) > 0:
                await asyncio.sleep(pause)
            else:
                self.looks[request_id] = clock(), asyncio.ensure_future(self._look(request_id))
        return True

    async def _look(self, request_id: int) -> None:
        token = await self.ask(request_id)
        if token is not None:
            self.known[request_id] = token
        else:
            self.known.pop(request_id, None)
        if len(self.looks) > MANY_LOOKS:
            old = asyncio.get_running_loop().time() - LOOK_SECONDS
            self.looks = {key: value for key, value in self.looks.items() if value[0] > old}


def same(token: str | None, shown: str) -> bool:
    """Compare a token with what a call shows, in a time that does not tell where they differ."""
    expected = os.urandom(32).hex() if token is None else token
    return hmac.compare_digest(f"Bearer {expected}".encode(), shown.encode("latin-1"))
