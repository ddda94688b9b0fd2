"""What ASGI says of a call, and what is said in it."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from sheepdog.server.http.asgi import Gone, Request

HEAD = {"method": "POST", "path": "/a", "raw_path": b"/a", "query_string": b"b=c"}


def request(*messages: MutableMapping[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> Request:
    left = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(left)

    return Request({**HEAD, "headers": list(headers)}, receive)


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    made = request(headers=((b"a", b"1"), (b"b", b"\xe9"), (b"a", b"22")))
    assert made.headers == {"a": "1", "b": "\xe9"}
    assert made.size == len("/ab=c" + "a1" + "b." + "a22")


def test_a_body_is_read_to_its_end_and_no_further() -> None:
    made = request(
        {"type": "http.request", "body": b"12", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"3"},
    )

    async def read() -> list[bytes]:
        return [await made.read() for _ in range(4)]

    assert asyncio.run(read()) == [b"12", b"3", b"", b""]


def test_the_other_end_goes() -> None:
    made = request({"type": "http.request", "body": b"12", "more_body": True}, {"type": "http.disconnect"})

    async def read() -> None:
        assert await made.read() == b"12"
        with pytest.raises(Gone):
            await made.read()

    asyncio.run(read())
