"""The body of a call: read as it comes, within what all calls may hold in memory; large blobs become files."""

from __future__ import annotations

import asyncio
import io
import itertools
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ...client import CHUNK, IN_MEMORY, MAX_CALL, MAX_HEADER, unpack
from .asgi import Request

MOST_HEADER = min(MAX_HEADER, 1 << 20)  # a worker's calls need a tenth of it
MOST_SMALL = 2 * MAX_CALL + IN_MEMORY  # blobs of a call that are no files: values, and what tasks have printed
JSON_GROWTH = 25  # bytes of Python's objects for a byte of JSON, at most
HEADER_MEMORY = 64 << 20  # for the headers of all calls
BLOB_MEMORY = 256 << 20  # for the blobs of all calls, and of the replies
LITTLE = 64 << 10  # who wants no more need not wait: it is in memory already
MEMORY_SECONDS = 30.0  # how long a call waits for its part


class NoMemory(Exception):
    """Other calls hold all the memory that there is for them."""


class TooLarge(ValueError):
    """A part of a body is larger than is allowed."""


class Budget:
    """Bytes that all calls together may hold. Who wants more waits until others are done."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self.freed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold so many bytes; NoMemory if there are none for long."""
        size = min(size, self.size)
        if self.free < size > LITTLE:
            try:
                async with asyncio.timeout(MEMORY_SECONDS), self.freed:
                    await self.freed.wait_for(lambda: self.free >= size)
            except TimeoutError:
                raise NoMemory from None
        self.free -= size
        try:
            yield
        finally:
            await self.give_back(size)

    def take(self, size: int) -> None:
        """Hold so many bytes though there may be none: they are in memory already."""
        self.free -= size

    async def give_back(self, size: int) -> None:
        """Let others have so many bytes."""
        self.free += size
        if size:
            async with self.freed:
                self.freed.notify_all()


class Body:
    """What a connection brings in one call: a header, then blobs. length is what the call's head promises."""

    def __init__(self, request: Request, length: int, directory: str) -> None:
        self.request = request
        self.length = length
        self.directory = directory
        self.buffer = b""
        self.blobs: list[Any] = []

    async def read_start(self) -> int:
        """Return how long the header is."""
        size = int.from_bytes(await self._read(4), "big")
        if size > min(MOST_HEADER, self.length):
            raise TooLarge(f"the header has {size} bytes; {min(MOST_HEADER, self.length)} are allowed")
        return size

    async def read_header(self, size: int) -> dict[str, Any]:
        """Return the header; ValueError if it is none, or if its blobs do not fit the body."""
        header = unpack(io.BytesIO(size.to_bytes(4, "big") + await self._read(size)))
        lengths = header["blobs"]
        if 4 + size + sum(lengths) != self.length:
            raise ValueError("the lengths of the blobs do not add up to the body's")
        if (small := self.in_memory(lengths)) > MOST_SMALL:
            raise TooLarge(f"the small blobs have {small} bytes together; {MOST_SMALL} are allowed")
        return header

    def in_memory(self, lengths: list[int]) -> int:
        """Return how many bytes of the blobs will be in memory."""
        return self.length if self.length <= IN_MEMORY else sum(length for length in lengths if length <= CHUNK)

    async def read_blobs(self, lengths: list[int], heard: Callable[[], object]) -> None:
        """Read the blobs: bytes, or files if they are large. heard is called now and then meanwhile."""
        if self.length <= IN_MEMORY:
            for large, group in itertools.groupby(lengths, lambda length: length > LITTLE):
                if large:
                    self.blobs += [await self._read(length) for length in group]
                else:  # in one go: there are many
                    little = list(group)
                    rest = await self._read(sum(little))
                    ends = itertools.accumulate(little)
                    self.blobs += [rest[end - length : end] for length, end in zip(little, ends, strict=True)]
            return
        unheard = 0
        for length in lengths:
            if length <= CHUNK:
                self.blobs.append(await self._read(length))
            else:
                file = tempfile.TemporaryFile(dir=self.directory)  # noqa: SIM115 (close() does)
                self.blobs.append(file)
                async for part in self._parts(length):
                    file.write(part)
                    unheard += len(part)
                    if unheard > 4 * IN_MEMORY:
                        unheard = 0
                        heard()

    def close(self) -> None:
        """Close the files."""
        for blob in self.blobs:
            if not isinstance(blob, bytes):
                blob.close()

    async def _parts(self, length: int) -> AsyncIterator[bytes]:
        while length:
            part = self.buffer or await self._chunk()
            part, self.buffer = part[:length], part[length:]
            length -= len(part)
            yield part

    async def _read(self, length: int) -> bytes:
        parts, missing = [self.buffer], length - len(self.buffer)
        while missing > 0:
            parts.append(await self._chunk())
            missing -= len(parts[-1])
        if missing < 0:
            last = parts[-1]
            parts[-1], self.buffer = last[:missing], last[missing:]
        else:
            self.buffer = b""
        return b"".join(parts)

    async def _chunk(self) -> bytes:
        chunk = await self.request.read()
        if not chunk:
            raise ValueError("the body is cut off")
        return chunk
