"""The outbox: what tasks have said, and how they ended, of which the server does not know yet."""

import collections
import os

from ..wire.frames import chunks_of, pack, size_of
from ..wire.limits import MAX_BATCH, MAX_CALL, MAX_MESSAGES
from ..wire.messages import CHECKPOINT, Message, weight
from ..wire.outcomes import Outcome
from ..wire.records import Records, heads_in, number_of, taken_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from ..wire.frames import Blob


class Parcel(collections.namedtuple("Parcel", "messages outcomes records last")):
    """What one call brings. last tells whether nothing is left for another."""

    __slots__ = ()

    @property
    def number(self) -> int:
        """How many things it brings."""
        return len(self.messages) + len(self.outcomes) + len(self.records)

    @property
    def header(self) -> "dict[str, Any]":
        """What the call says of it."""
        found = {"outcomes": [entry_of(outcome) for outcome in self.outcomes]}  # type: dict[str, Any]
        if self.messages:
            found["messages"] = [[m.task, m.attempt, m.kind, m.number] for m in self.messages]
        if self.records:
            found["records"] = len(self.records)
        return found

    @property
    def blobs(self) -> "list[Blob]":
        """The blobs of the call: two of each outcome, then one of each message, then records."""
        blobs = [blob for outcome in self.outcomes for blob in (outcome.value, outcome.output)]
        return blobs + [message.value for message in self.messages] + [records.data for records in self.records]


def entry_of(outcome: Outcome) -> "list[Any]":
    """Return what a call says of an outcome, beside its blobs: its measures only if there are any."""
    entry = [outcome.task, outcome.attempt, outcome.kind, round(outcome.seconds, 6)]
    if outcome.peak or outcome.signal or outcome.status is not None:
        entry += [outcome.signal, outcome.status, outcome.peak]
    return entry


class Outbox(object):
    """Messages and outcomes in the order in which they came: what a task said, then how it ended."""

    def __init__(self) -> None:
        self.items = collections.deque()  # type: collections.deque[Message | Outcome | Records]
        self.weight = 0  # of the messages

    def __len__(self) -> int:
        return number_of(self.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    @property
    def full(self) -> bool:
        """Whether there are as many messages as may wait."""
        return self.weight > MAX_MESSAGES

    def add(self, outcomes: "Iterable[Outcome | Records]") -> None:
        """Take outcomes in."""
        self.items.extend(outcomes)

    def add_messages(self, messages: "list[Message]") -> None:
        """Take messages in. Of a task's checkpoints, only the latest is of use."""
        latest = {message.task: message for message in messages if message.kind == CHECKPOINT}
        if latest:
            self._keep(lambda item: not is_checkpoint(item) or item.task not in latest)
        for message in messages:
            if message.kind != CHECKPOINT or message is latest[message.task]:
                self.items.append(message)
                self.weight += weight(message)

    def _keep(self, condition: "Callable[[Any], bool]") -> None:
        self.items = collections.deque(filter(condition, self.items))
        self.weight = sum(weight(item) for item in self.items if isinstance(item, Message))

    def first(self) -> Parcel:
        """Return the first of all, as much as one call takes."""
        taken = []  # type: list[Any]
        size = number = 0
        for item in self.items:
            if isinstance(item, Records):
                size, number = size + len(item.data), number + len(item.tasks)
            else:
                size += size_of(item.value) + (len(item.output) if isinstance(item, Outcome) else 0)
                number += 1
            if taken and (size > MAX_CALL or number > 2 * MAX_BATCH):
                break
            taken.append(item)
        kinds = [[item for item in taken if isinstance(item, kind)] for kind in (Message, Outcome, Records)]  # type: list[Any]
        return Parcel(*(kinds + [len(taken) == len(self.items)]))

    def behind(self, sent: Parcel) -> "list[tuple[int, int]]":
        """Return task and attempt of the outcomes behind the first ones."""
        found = []  # type: list[tuple[int, int]]
        for item in list(self.items)[sent.number :]:
            if isinstance(item, Records):
                found += [head[:2] for _, head in heads_in(item.data)]
            elif isinstance(item, Outcome):
                found.append((item.task, item.attempt))
        return found

    def forget(self, sent: Parcel) -> None:
        """Drop the first of all: it is safe elsewhere."""
        self.weight -= sum(map(weight, sent.messages))
        for _ in range(sent.number):
            item = self.items.popleft()
            if not isinstance(item, Records) and not isinstance(item.value, bytes):
                item.value.close()

    def drop(self, tasks: "set[int]") -> None:
        """Drop what is of tasks that have ended elsewhere."""
        if any(isinstance(item, Records) and not tasks.isdisjoint(item.tasks) for item in self.items):
            self.items = collections.deque(taken_apart(self.items))
        self._keep(lambda item: isinstance(item, Records) or item.task not in tasks)

    def spool(self, name: str, header: "Callable[[Parcel], dict[str, Any]]") -> None:
        """Write all into files, each as the body of a call, for the server to collect; OSError if that fails.

        The files are called name-1, name-2 and so on; header makes the header of a call that brings a parcel.
        """
        os.makedirs(os.path.dirname(name), 0o700, exist_ok=True)
        number = 0
        while self:
            number += 1
            sent = self.first()
            head = pack(header(sent), [size_of(blob) for blob in sent.blobs])
            write_durably("%s-%d" % (name, number), [head] + sent.blobs)
            self.forget(sent)


def is_checkpoint(item: "Any") -> bool:
    """Tell whether this is a checkpoint, and no report or outcome."""
    return isinstance(item, Message) and item.kind == CHECKPOINT


def write_durably(path: str, blobs: "Sequence[Blob]") -> None:
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
