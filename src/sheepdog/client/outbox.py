"""The outbox: outcomes that the server does not have yet."""

import collections
import os

from .frames import chunks_of, pack, size_of
from .limits import MAX_BATCH, MAX_CALL
from .outcomes import Outcome, blobs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .frames import Blob


class Outbox(object):
    """Outcomes in the order in which they came."""

    def __init__(self) -> None:
        self.outcomes = collections.deque()  # type: collections.deque[Outcome]

    def __len__(self) -> int:
        return len(self.outcomes)

    def add(self, outcomes: "list[Outcome]") -> None:
        """Take outcomes in."""
        self.outcomes.extend(outcomes)

    def first(self) -> "list[Outcome]":
        """Return the first outcomes, as many as one call takes."""
        sent = []  # type: list[Outcome]
        size = 0
        for outcome in self.outcomes:
            size += size_of(outcome.value)
            if sent and (size > MAX_CALL or len(sent) >= 2 * MAX_BATCH):
                break
            sent.append(outcome)
        return sent

    def behind(self, sent: "list[Outcome]") -> "list[tuple[int, int]]":
        """Return task and attempt of the outcomes behind the first ones."""
        return [(outcome.task, outcome.attempt) for outcome in list(self.outcomes)[len(sent) :]]

    def forget(self, sent: "list[Outcome]") -> None:
        """Drop the first outcomes: they are safe elsewhere."""
        for _ in sent:
            outcome = self.outcomes.popleft()
            if not isinstance(outcome.value, bytes):
                outcome.value.close()

    def drop(self, tasks: "set[int]") -> None:
        """Drop the outcomes of tasks that have ended elsewhere."""
        self.outcomes = collections.deque([outcome for outcome in self.outcomes if outcome.task not in tasks])

    def spool(self, name: str, header: "Callable[[list[Outcome]], dict[str, Any]]") -> None:
        """Write all into files, each as the body of a call, for the server to collect; OSError if that fails.

        The files are called name-1, name-2 and so on; header makes the header of a call that brings these outcomes.
        """
        os.makedirs(os.path.dirname(name), 0o700, exist_ok=True)
        number = 0
        while self.outcomes:
            number += 1
            sent = self.first()
            blobs = blobs_of(sent)
            head = pack(header(sent), [size_of(blob) for blob in blobs])
            write_durably("%s-%d" % (name, number), [head] + blobs)
            self.forget(sent)


def write_durably(path: str, blobs: "list[Blob]") -> None:
    """Write a file that is there as a whole, or not at all."""
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            for blob in blobs:
                for chunk in chunks_of(blob):
                    file.write(chunk)
            file.flush()
            os.fsync(fd)
        os.rename(path + ".new", path)
    except OSError:
        os.unlink(path + ".new")
        raise
