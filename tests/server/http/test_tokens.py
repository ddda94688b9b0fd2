"""The tokens of requests."""

import asyncio
import time

from sheepdog import client
from sheepdog.server.http.tokens import Tokens
from sheepdog.storage import Storage
from tests.faults import fault
from tests.wire import WORKER, Wire, answer


def test_a_token_is_looked_up_once_a_second_and_never_refused_without(wire: Wire) -> None:
    """The real class, with a real clock; the service is what is counted."""
    asked: list[int] = []
    tokens = {1: "one"}

    async def ask(request: int) -> str | None:
        asked.append(request)
        await asyncio.sleep(0.01)
        return tokens.get(request)

    async def scenario() -> None:
        known = Tokens(ask)
        assert await known.fit(1, "Bearer one")
        assert all(await asyncio.gather(*(known.fit(1, "Bearer one") for _ in range(100))))
        assert asked == [1]
        began = time.monotonic()
        assert not any(await asyncio.gather(*(known.fit(2, "Bearer x") for _ in range(100))))
        assert not any(await asyncio.gather(*(known.fit(1, "Bearer x") for _ in range(100))))
        assert asked in ([1, 2, 1], [1, 2, 2, 1, 1])  # for those that asked just after the first look had begun
        tokens[2], tokens[1] = "two", "uno"
        assert all(await asyncio.gather(known.fit(2, "Bearer two"), known.fit(1, "Bearer uno")))
        assert sorted(asked[-2:]) == [1, 2]
        assert time.monotonic() - began > 0.9
        assert not await known.fit(1, "Bearer one")

    asyncio.run(scenario())


@fault(
    (21, "retry"),
    "a call with the token that a request had before",
    promise="it is refused at once; the new one is known",
)
def test_a_token_that_has_changed(wire: Wire) -> None:
    assert wire.exchange()[0] == 200
    old, wire.token = wire.token, "f" * 64
    with Storage(wire.dbfile) as storage, storage.transaction():
        storage.db.execute("UPDATE request SET token = ?", [wire.token])
        storage.sign_request(1, again=True)
    body = client.pack({**WORKER, "call": 99}, [])
    assert answer(wire.connect(), wire.head(len(body), token=old) + body)[0] == 401  # though the new is not known yet
    assert wire.exchange()[0] == 200
    assert answer(wire.connect(), wire.head(len(body), token=old) + body)[0] == 401
