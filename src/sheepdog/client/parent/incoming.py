"""What comes out of the child's pipe: messages, outcomes, and what the child says of itself."""

import tempfile

from ..wire.limits import IN_MEMORY, MAX_BATCH
from ..wire.messages import CHECKPOINT, REPORT, Message, weight
from ..wire.records import MAX_RECORDS, RECORD, RECORDED, Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO  # noqa: F401 (named in a comment)

    from ..wire.frames import Blob


class Incoming(object):
    """Takes the pipe's bytes as they come; keeps what tasks say until somebody takes it."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        # something whose value is on its way into a file: that, the bytes that are missing, its head
        self.large = None  # type: tuple[BinaryIO, int, Any] | None
        self.messages = []  # type: list[Message]  # that nobody has taken yet
        self.weight = 0  # of these
        self.said = 0  # messages so far

    @property
    def in_outcome(self) -> bool:
        """Whether an outcome is on its way, and a part of it is here."""
        return self.large is not None and self.large[2][2] not in (REPORT, CHECKPOINT)

    def take_messages(self) -> "list[Message]":
        """Return what tasks have said since this was last asked."""
        messages, self.messages, self.weight = self.messages, [], 0
        return messages

    def feed(self, data: bytes) -> "Iterator[Records | tuple[Any, Blob, bytes]]":
        """Take bytes in; yield records of outcomes; of what else is no message, the head, the value and the output."""
        self.buffer += data
        while True:
            records = self._records()
            if records is not None:
                yield records
            found = self._next()
            if found is None:
                return
            head, value, _ = found
            if head[2] not in (REPORT, CHECKPOINT):
                yield found
                continue
            self.said += 1
            self.messages.append(Message(head[0], head[1], head[2], self.said, value))
            self.weight += weight(self.messages[-1])

    def _records(self) -> "Records | None":
        """Return the outcomes that are here as a whole, up to something else, or something large."""
        if self.large is not None:
            return None
        buffer, last = self.buffer, len(self.buffer) - RECORD.size
        unpack = RECORD.unpack_from
        tasks, times = [], []  # type: list[int], list[float]
        at = 0
        while at <= last and len(tasks) < MAX_BATCH and at < MAX_RECORDS:
            index, _, kind, seconds, _, _, length, more = unpack(buffer, at)
            size = length + more
            if not index or kind in (REPORT, CHECKPOINT) or size > RECORDED or at + size > last:
                break
            at += RECORD.size + size
            tasks.append(index)
            times.append(seconds)
        if not tasks:
            return None
        data = bytes(buffer[:at])
        del buffer[:at]
        return Records(data, tasks, times)

    def _next(self) -> "tuple[Any, Blob, bytes] | None":
        """Return the next that is here as a whole."""
        buffer = self.buffer
        if self.large is None:
            if len(buffer) < RECORD.size:
                return None
            head = RECORD.unpack_from(buffer)
            length = head[-2]
            if length <= IN_MEMORY:
                start = RECORD.size + length
                end = start + head[-1]
                if len(buffer) < end:
                    return None
                with memoryview(buffer) as view:
                    found = head, bytes(view[RECORD.size : start]), bytes(view[start:end])
                del buffer[:end]
                return found
            del buffer[: RECORD.size]
            self.large = (tempfile.TemporaryFile(), length, head)
        spool, missing, head = self.large
        part = buffer[:missing]
        spool.write(part)
        del buffer[: len(part)]
        self.large = (spool, missing - len(part), head)
        if missing > len(part) or len(buffer) < head[-1]:
            return None
        output = bytes(buffer[: head[-1]])
        del buffer[: head[-1]]
        self.large = None
        return head, spool, output
