"""What comes out of the child's pipe: messages, outcomes, and what the child says of itself."""

import tempfile

from ..wire.limits import COPIED, IN_MEMORY, MAX_BATCH
from ..wire.messages import CHECKPOINT, REPORT, Message, weight
from ..wire.records import MAX_RECORDS, RECORD, Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO  # noqa: F401 (named in a comment)

    from ..wire.frames import Blob


class Incoming(object):
    """Takes the pipe's bytes as they come; keeps what tasks say until somebody takes it."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.large = None  # type: Large | None  # something whose value is on its way
        self.messages = []  # type: list[Message]  # that nobody has taken yet
        self.weight = 0  # of these
        self.said = 0  # messages so far

    @property
    def in_outcome(self) -> bool:
        """Whether an outcome is on its way, and a part of it is here."""
        return self.large is not None and self.large.head[2] not in (REPORT, CHECKPOINT)

    def take_messages(self) -> "list[Message]":
        """Return what tasks have said since this was last asked."""
        messages, self.messages, self.weight = self.messages, [], 0
        return messages

    def feed(self, data: bytes) -> "Iterator[Records | tuple[Any, Blob, bytes]]":
        """Take bytes in; yield records of outcomes; of what else is no message, the head, the value and the output."""
        while True:
            if self.large is not None:
                data = self.large.take(data)
                if self.large.missing:
                    return
            self.buffer += data
            data = b""
            records = self._records()
            if records is not None:
                yield records
            found = self._next()
            if found is None:
                if self.large is None or not self.large.missing or not self.buffer:
                    return
                data, self.buffer = bytes(self.buffer), bytearray()
                continue
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
        at = failed = 0
        while at <= last and len(tasks) < MAX_BATCH and at < MAX_RECORDS:
            index, _, kind, seconds, _, _, length, more = unpack(buffer, at)
            size = length + more
            if not index or kind in (REPORT, CHECKPOINT) or size >= COPIED or at + size > last:
                break
            at += RECORD.size + size
            failed |= kind  # RESULT is 0
            tasks.append(index)
            times.append(seconds)
        if not tasks:
            return None
        data = bytes(buffer[:at])
        del buffer[:at]
        return Records(data, tasks, times, failed)

    def _next(self) -> "tuple[Any, Blob, bytes] | None":
        """Return the next that is here as a whole. If its value is large, begin to gather that."""
        buffer = self.buffer
        if self.large is None:
            if len(buffer) < RECORD.size:
                return None
            head = RECORD.unpack_from(buffer)
            length, more = head[-2:]
            if length >= COPIED:
                del buffer[: RECORD.size]
                self.large = Large(head)
                return None
            end = RECORD.size + length + more
            if len(buffer) < end:
                return None
            value, output = bytes(buffer[RECORD.size : end - more]), bytes(buffer[end - more : end])
            del buffer[:end]
            return head, value, output
        head = self.large.head
        if len(buffer) < head[-1]:
            return None
        output, value = bytes(buffer[: head[-1]]), self.large.value()
        del buffer[: head[-1]]
        self.large = None
        return head, value, output


class Large(object):
    """A large value on its way: what is here of it, in memory or in a file."""

    def __init__(self, head: "tuple[Any, ...]") -> None:
        self.head = head
        self.missing = head[-2]  # type: int
        self.parts = []  # type: list[bytes]
        self.spool = tempfile.TemporaryFile() if self.missing > IN_MEMORY else None  # type: BinaryIO | None

    def take(self, data: bytes) -> bytes:
        """Take what is part of it; return the rest."""
        part, rest = (data, b"") if len(data) <= self.missing else (data[: self.missing], data[self.missing :])
        self.missing -= len(part)
        if self.spool is None:
            self.parts.append(part)
        else:
            self.spool.write(part)
        return rest

    def value(self) -> "Blob":
        """Return it."""
        return b"".join(self.parts) if self.spool is None else self.spool
