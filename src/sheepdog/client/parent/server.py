"""The server, seen from the worker: what it is told, and what it says."""

import collections
import os
import time

from ..link import Over
from ..wire.frames import runs
from ..wire.limits import MESSAGE_PAUSE, PROTOCOL, SPARE_PATIENCE, WORDS
from ..wire.pythons import describe_python
from .outbox import Outbox
from .rhythm import Rhythm
from .signals import WARNINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..link import Answer, Link
    from ..wire.messages import Message
    from .leaving import Leaving
    from .outbox import Parcel
    from .signals import Signals

Holding = collections.namedtuple("Holding", "tasks running")
# tasks      (index, attempt) of those that the worker has
# running    the one that runs: index, attempt, for how many seconds; None if none does

Reply = collections.namedtuple("Reply", "stop drop tasks checkpoints functions wait prompt")
# stop         whether there is nothing left to do
# drop         indices of tasks that have ended elsewhere
# tasks        to run now
# checkpoints  of some of these, by their indices
# functions    that were asked for, by their hashes
# wait         in how many seconds there may be tasks, if there are none now
# prompt       whether the server has not waited for any


class Server(object):
    """What the worker says to the server, and what it has still to say."""

    def __init__(
        self, link: "Link", about: "dict[str, Any]", secret: "dict[str, Any]", log: "Callable[[str], None]"
    ) -> None:
        self.link = link
        self.about = about
        self.patience = secret["patience"]  # type: float
        self.directory = secret["directory"]  # type: str
        self.log = log
        self.rhythm = Rhythm(link, log)
        self.outbox = Outbox()
        self.calls = 0
        self.told = 0.0  # when it last answered
        self.said = set()  # type: set[str]  # of modules, to the log
        self.words = []  # type: list[str]  # ... and what it has still to hear of that
        self.others = []  # type: list[Any]  # packages that are not here, or differ, of which it has still to hear
        self.way = ("", "", "")  # by which it has told that it calls
        self.unfit = ""  # why this Python cannot load the function
        self.late = 0  # outcomes that came after another

    def join(self, signals: "Signals", more: "dict[str, Any] | None" = None) -> "Answer":
        """Say what this worker is, and more; return the settings and the function. Keep trying."""
        said = dict(more or {}, protocol=PROTOCOL, python=describe_python())
        while True:
            if signals.warning:
                raise Over(WARNINGS[signals.warning])
            answer = self.rhythm.attempt(
                lambda _: self.link.join(self._signed(said)),
                min(self.patience, SPARE_PATIENCE),
            )
            if answer is not None:
                return answer
            signals.sleep(self.rhythm.pause)

    def say(self, messages: "list[Message]") -> None:
        """Take what tasks say, to be delivered at once; but let some time pass between two calls."""
        self.outbox.add_messages(messages)
        self.rhythm.call_within(self.told + MESSAGE_PAUSE - time.monotonic())

    def tell(self, words: "list[str]") -> None:
        """Tell, once, what the user should hear of modules; with the next call."""
        for text in words:
            if text not in self.said:
                self.said.add(text)
                self.words.append(text)
                self.log(text)

    def exchange(
        self, want: int, holding: Holding, leaving: "Leaving | None", lacking: "Sequence[bytes]" = ()
    ) -> "Reply | None":
        """Report outcomes and ask for tasks, in one round trip, or for functions. Return None if that failed."""
        sent = self.outbox.first()
        if not sent.last:
            want = 0  # first the rest of them
        header = self._header(sent, want, holding.tasks + self.outbox.behind(sent), leaving)
        if lacking:
            header["functions"] = [name.hex() for name in lacking]
        if self.unfit:
            header["unfit"] = self.unfit
        words = self.words[:WORDS]
        if words:
            header["words"] = words
        if self.others:
            header["others"] = self.others
        way = self.link.way
        if way != self.way:
            header["way"] = way
        if holding.running is not None:
            header["running"] = holding.running
        answer = self.rhythm.attempt(
            lambda deadline: self.link.exchange(self._signed(header), sent.blobs, deadline),
            self._patience(holding, leaving),
        )
        if answer is None:
            return None
        reply, blobs = answer
        self.outbox.forget(sent)
        del self.words[: len(words)]
        self.others = []
        self.way = way
        self.told = time.monotonic()
        self.rhythm.beat()
        self._note_late(len(reply.get("late", ())))
        tasks = [(index, attempt, blob) for (index, attempt), blob in zip(reply.get("tasks", ()), blobs)]
        checkpoints = dict(zip(reply.get("checkpoints", ()), blobs[len(tasks) :]))
        functions = dict(zip(map(bytes.fromhex, reply.get("functions", ())), blobs[len(tasks) + len(checkpoints) :]))
        drop, wait = set(reply.get("drop", ())), reply.get("wait", 1.0)
        return Reply(bool(reply.get("stop")), drop, tasks, checkpoints, functions, wait, "wait" not in reply)

    def spool(self, leaving: "Leaving | None") -> None:
        """Leave the outcomes that it does not have in files. It collects them."""
        count = len(self.outbox)
        if not count:
            return
        directory = os.path.join(self.directory, "spool")
        name = os.path.join(directory, self.about["worker"])
        try:
            self.outbox.spool(name, lambda sent: self._signed(self._header(sent, 0, [], leaving)))
        except OSError as error:
            self.log("%d outcomes are lost: they cannot be written to %s: %s" % (len(self.outbox), directory, error))
        else:
            self.log("%d outcomes wait for the server in %s" % (count, directory))

    def _patience(self, holding: Holding, leaving: "Leaving | None") -> float:
        """Return for how long it is tried to reach."""
        if leaving is not None:
            return float("inf")
        return self.patience if self.outbox or holding.running is not None else min(self.patience, SPARE_PATIENCE)

    def _signed(self, header: "dict[str, Any]") -> "dict[str, Any]":
        """Return the header of the next call: with its number, and the name of this worker."""
        self.calls += 1
        return dict(header, call=self.calls, **self.about)

    def _header(
        self, sent: "Parcel", want: int, tasks: "list[tuple[int, int]]", leaving: "Leaving | None"
    ) -> "dict[str, Any]":
        """Return what an exchange says."""
        told = None
        if leaving is not None:
            seconds = max(0.0, leaving.until - time.monotonic())
            told = {"reason": leaving.reason, "seconds": round(seconds, 1)}
        return dict(sent.header, want=want, holding=runs(tasks), leaving=told)

    def _note_late(self, count: int) -> None:
        """Say once in a while that others had been quicker."""
        if count and len(str(self.late + count)) > len(str(self.late or "")):
            self.log("%d outcomes came too late: the server had others of the same tasks" % (self.late + count))
        self.late += count
