"""Records: outcomes as the child writes them. They travel as they are: only the server takes them apart."""

import collections
import struct

from .outcomes import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# index, attempt, kind, seconds, exit status, peak memory, bytes of value, bytes of output, which follow
RECORD = struct.Struct("!QIBdhQQI")
NO_STATUS = -1  # the task has not exited
MAX_RECORDS = 256 << 10  # bytes of records, from which on others follow

Records = collections.namedtuple("Records", "data tasks seconds failed")
# data     records, one behind the other
# tasks    the index of each
# seconds  that each took
# failed   0 if all are results


def heads_in(data: bytes) -> "Iterator[tuple[int, tuple[Any, ...]]]":
    """Yield the head of each record, and where it ends; ValueError if the last one is cut off."""
    at, end = 0, len(data)
    while at < end:
        if end - at < RECORD.size:
            raise ValueError("a record is cut off")
        head = RECORD.unpack_from(data, at)
        at += RECORD.size
        yield at, head
        at += head[6] + head[7]
    if at > end:
        raise ValueError("a record is cut off")


def outcomes_in(data: bytes) -> "list[Outcome]":
    """Return the outcomes of records."""
    found = []
    for at, (index, attempt, kind, seconds, status, peak, length, more) in heads_in(data):
        value, output = data[at : at + length], data[at + length : at + length + more]
        status = None if status == NO_STATUS else status
        found.append(Outcome(index, attempt, kind, seconds, value, output, 0, status, peak))
    return found


def taken_apart(items: "Iterable[Any]") -> "list[Any]":
    """Return outcomes in the place of records, and what else there is as it is."""
    found = []  # type: list[Any]
    for item in items:
        found += outcomes_in(item.data) if isinstance(item, Records) else [item]
    return found


def number_of(items: "Iterable[Any]") -> int:
    """Return how many things these are, each record being one."""
    return sum(len(item.tasks) if isinstance(item, Records) else 1 for item in items)
