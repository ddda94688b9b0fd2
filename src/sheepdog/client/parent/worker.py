"""The worker: keeps its child busy and the server informed, to the end of its time."""

import collections
import os
import random
import signal
import time

from ..link.https import Line, Refused
from ..processes import end_orphans
from ..wire.frames import runs
from ..wire.limits import (
    BATCH_STUCK,
    FETCH_AHEAD,
    LEAVING_BEAT,
    LISTEN_PAUSE,
    LOADING,
    MESSAGE_PAUSE,
    NOTICE,
    SPARE_PATIENCE,
    SUSPENDED,
    TRIM_PAUSE,
    TRIM_PAUSE_BUSY,
)
from ..wire.outcomes import DIED, INTERRUPTED, INTERRUPTION, RESULT, TIMEOUT, Outcome
from .child import Child
from .outbox import Outbox, Parcel
from .pace import Pace
from .signals import WARNINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.frames import Blob, Task

Leaving = collections.namedtuple("Leaving", "reason interrupt until")  # why; when a task is ended; when the worker is


class Worker(object):
    """The parent: keeps the child busy and the server informed. Making one starts its child."""

    def __init__(self, line: Line, settings: "dict[str, Any]", function: "list[Blob]", start: float) -> None:
        self.line = line
        self.signals = line.signals
        settings = {key: settings.get(key) for key in ("max_value", "timeout", "tasks_per_child")}
        self.timeout = settings["timeout"]  # type: float | None
        self.secret = dict(line.secret, **settings)
        self.notice = line.secret.get("notice") or NOTICE  # type: float
        time_limit = line.secret.get("time")
        self.end = start + time_limit if time_limit else float("inf")  # of its walltime
        self.margin = min(self.notice, 0.1 * time_limit) if time_limit else 0.0  # before that
        self.secret["host"] = line.about["host"]
        if time_limit:  # when its tasks are ended, by the clock that they know
            self.secret["end"] = time.time() + self.end - time.monotonic() - time_to_deliver(self.margin)
        self.leaving = None  # type: Leaving | None
        self.has_said_so = False  # that it is leaving
        self.function = function
        self.child = self.new_child()
        self.outbox = Outbox()
        self.fetched = []  # type: list[Task]
        self.checkpoints = {}  # type: dict[int, Blob]  # of tasks that another worker had, by their indices
        self.told = 0.0  # when the server was
        self.pace = Pace(self.end - self.margin)
        self.ahead = False  # fetch the next batch while the present one runs
        self.early_deaths = 0  # of children that had not started a task
        self.partings = 0  # of children that the function had left unfit
        self.replaced = 0.0  # when the child was, if it has had no outcome yet
        self.late = 0  # outcomes that came after another

    def run(self) -> None:
        """Work until there is nothing left to do."""
        try:
            while self.step():
                pass
        except Refused:
            self.spool()
            raise
        finally:
            self.child.kill()
            end_orphans()

    def step(self) -> bool:
        """Listen to the child, or talk to the server. Return False when told to stop, or when there is no time left."""
        line = self.line
        if self.leaving is None:
            self.watch_for_the_end()
        if self.leaving is not None:
            return self.leave(self.leaving)
        if self.child.running:
            if self.ahead and not line.failures:
                self.ahead = False
                return self.exchange(self.affordable())  # so that the child need not wait for its next batch
            self.listen()
            if self.child.running:
                return self.exchange(0) if time.monotonic() >= line.next_call else True
        self.pace.adapt()
        if self.fetched:
            fetched, self.fetched = self.fetched, []
            self.give(fetched)
            return True
        want = self.affordable()
        if not want:
            until = min(self.end, time.monotonic() + self.notice)
            self.prepare_to_leave("its walltime ends before another task could", until)
            return True
        if self.outbox:
            line.call_within(0)
        pause = min(line.next_call, self.end - self.margin) - time.monotonic()
        if pause > 0:
            self.signals.sleep(pause)
            return True
        return self.exchange(want)

    # --- time

    def affordable(self) -> int:
        """Return how many tasks to ask for."""
        return self.pace.affordable(len(self.child.running) + len(self.fetched))

    def watch_for_the_end(self) -> None:
        """Begin to leave if a warning has come, or if the walltime is nearly over."""
        if self.signals.warning:
            reason = WARNINGS[self.signals.warning]
            self.prepare_to_leave(reason, min(self.end, self.signals.warned + self.notice))
        elif time.monotonic() >= self.end - self.margin:
            self.prepare_to_leave("its walltime of %g s was over" % self.secret["time"], self.end)

    def prepare_to_leave(self, reason: str, until: float) -> None:
        """Hand back what has not begun, and say so at once. The end of the time is for ending and delivering."""
        now = time.monotonic()
        last = time_to_deliver(until - now)
        self.leaving = Leaving(reason, until - last, until - last / 4)
        self.line.log("leaves within %d s: %s" % (until - now, reason))
        self.line.connect_timeout = self.line.reply_timeout = max(0.5, last / 4)
        self.hand_back()
        self.line.next_call = now

    def leave(self, leaving: Leaving) -> bool:
        """Take one step towards the end: the running task may go on for a while, and what has ended is delivered.

        Return False when that is done, or when the time is over: outcomes that the server does not have are files then.
        """
        line, child = self.line, self.child
        now = time.monotonic()
        if child.running and now >= leaving.interrupt:
            text = INTERRUPTION + leaving.reason
            child.terminate(INTERRUPTED, text, max(0.0, leaving.until - now) / 3)
        if now >= line.next_call:
            if not self.exchange(0):
                return False
            line.next_call = min(line.next_call, time.monotonic() + LEAVING_BEAT)
            self.has_said_so = self.has_said_so or not line.failures
        if self.child.running:
            self.listen(leaving.until if self.child.verdict is not None else leaving.interrupt)
        elif not self.outbox and (self.has_said_so or line.failures):
            return False
        elif self.outbox and not line.failures:
            line.call_within(0)
        elif now < leaving.until:
            self.signals.sleep(min(line.next_call, leaving.until) - now)
        if time.monotonic() < leaving.until:
            return True
        self.spool()
        return False

    # --- the child

    def new_child(self) -> Child:
        """Return a fresh process for the function."""
        return Child(self.secret, self.function[0], self.function[1], self.signals)

    def give(self, tasks: "list[Task]") -> None:
        """Hand the child a batch."""
        if self.child.parting is not None:
            self.replace_child()
        self.pace.begin()
        self.ahead = len(tasks) >= FETCH_AHEAD
        self.child.give(tasks, self.checkpoints)

    def listen(self, limit: float = float("inf")) -> None:
        """Take what the child has to say, until it is time for something else; take back what it cannot start soon."""
        child, line = self.child, self.line
        now = time.monotonic()
        waiting = len(child.running) - 1 + len(self.fetched)
        limits = [limit, line.next_call, now + (TRIM_PAUSE_BUSY if child.capture.trim() else TRIM_PAUSE)]
        if waiting:
            limits.append(child.started + BATCH_STUCK)
        if child.verdict is not None:
            limits.append(child.kill_at)
        elif self.timeout:
            limits.append(child.overdue(self.timeout))
        listens = self.leaving is not None or not self.outbox.full
        found, ended = child.collect(min(limits) - now, listens)
        said = len(child.messages)
        self.take(found)
        before, now = now, time.monotonic()
        if now - before > SUSPENDED or not listens:
            # Nothing here waits for so long: the job was stopped, the child with it. Or the child is made to wait.
            child.since += now - before
        if ended or (child.verdict is not None and (now >= child.kill_at or not child.running)):
            self.replace_child()
        elif self.timeout and child.running and now >= child.overdue(self.timeout):
            self.end_overdue(self.timeout)
        elif len(found) >= 4 and child.running:  # it has much to say: let it, rather than wake for every word
            time.sleep(min(LISTEN_PAUSE, (now - child.started) / self.pace.ended * len(child.running) / 2))
        elif said >= 4 and child.running:
            time.sleep(LISTEN_PAUSE)
        elif waiting and child.running and now - child.started >= BATCH_STUCK:
            child.started = now
            back = self.hand_back()
            if back:
                line.log("gives %d tasks back: one takes long" % back)
                line.call_within(0)
        if found:
            line.call_within(BATCH_STUCK)

    def take(self, found: "list[Outcome]") -> None:
        """Note outcomes, and what tasks have said before them, to be delivered."""
        messages = self.child.take_messages()
        if messages:
            self.outbox.add_messages(messages)
            self.line.call_within(self.told + MESSAGE_PAUSE - time.monotonic())
        if not found:
            return
        self.early_deaths = 0
        # What a fresh child costs is part of the work.
        self.pace.note(found, time.monotonic() - self.replaced if self.replaced else 0.0)
        self.replaced = 0.0
        if self.child.verdict is not None:
            kind, text = self.child.verdict
            found = [
                o if o.kind == RESULT else o._replace(kind=kind, value=text.encode() + b"\n" + o.value) for o in found
            ]
        self.outbox.add(found)

    def hand_back(self) -> int:
        """Part with the tasks that have not begun: the next call does not name them. Return how many."""
        count = len(self.child.recall()) + len(self.fetched)
        self.fetched = []
        return count

    def end_overdue(self, timeout: float) -> None:
        """End the task that runs, and no other: those behind it are kept for the next child."""
        child = self.child
        self.fetched = child.recall() + self.fetched
        found, _ = child.collect(0)
        self.take(found)
        if not child.running or time.monotonic() < child.overdue(timeout):
            return  # it has just ended; another has perhaps begun
        text = "the task took longer than its timeout of %g s and was ended" % timeout
        if not child.loaded:
            text = "the function was not loaded within %g s, and its process was ended" % (LOADING + timeout)
        child.terminate(TIMEOUT, text)

    def replace_child(self) -> None:
        """Report the task that the child died of, and let another go on with the rest."""
        child = self.child
        how, found, outcome, left = child.autopsy()
        self.take(found)
        if outcome is not None and outcome.kind == DIED and child.killed_by() in (signal.SIGTERM, signal.SIGKILL):
            if not self.signals.warning:  # schedulers signal all processes of a job; this one may have been the first
                self.signals.sleep(0.1)
            if self.signals.warning:
                text = INTERRUPTION + WARNINGS[self.signals.warning]
                outcome = outcome._replace(kind=INTERRUPTED, value=text.encode())
        if child.parting:
            self.partings += 1
            if self.partings == 1:
                text = "goes on with a fresh process, now and whenever the function leaves its own changed: "
                self.line.log(text + child.parting)
        elif child.parting is None and child.verdict is None:
            self.line.log("the task's process " + how)
            if outcome is None and left:
                self.early_deaths += 1
                if self.early_deaths >= 3:  # that must not go on for ever
                    self.early_deaths = 0
                    index, attempt, _ = left.pop(0)
                    text = "the task's process %s before it could start the task" % how
                    outcome = Outcome(index, attempt, DIED, 0.0, text.encode(), b"")
        if outcome is not None:
            self.outbox.add([outcome])
        end_orphans()
        self.replaced = time.monotonic()
        self.child = self.new_child()
        if left and self.leaving is None:
            self.child.give(left, self.checkpoints)

    # --- the server

    def exchange(self, want: int) -> bool:
        """Report outcomes and ask for tasks, in one round trip. Return False when told to stop."""
        sent = self.outbox.first()
        if not sent.last:
            want = 0  # first the rest of them
        holding = [(index, attempt) for index, (attempt, _) in self.child.running.items()]
        holding += [(index, attempt) for index, attempt, _ in self.fetched]
        holding += self.outbox.behind(sent)
        if self.checkpoints:
            self.checkpoints = {index: self.checkpoints[index] for index, _ in holding if index in self.checkpoints}
        has_something = self.outbox or self.child.running
        patience = self.secret["patience"] if has_something else min(self.secret["patience"], SPARE_PATIENCE)
        if self.leaving is not None:
            patience = float("inf")
        answer = self.line.call("exchange", self.header(sent, want, holding), sent.blobs, patience)
        if answer is None:
            return True
        reply, blobs = answer
        self.outbox.forget(sent)
        if reply.get("stop"):
            return False
        self.told = now = time.monotonic()
        self.line.next_call = now + self.line.heartbeat * random.uniform(0.8, 1.2)
        self.note_late(len(reply.get("late", ())))
        if reply.get("drop"):
            self.drop(set(reply["drop"]))
        tasks = [(index, attempt, blob) for (index, attempt), blob in zip(reply["tasks"], blobs)]
        self.checkpoints.update(zip(reply.get("checkpoints", ()), blobs[len(tasks) :]))
        if tasks and (self.child.running or self.fetched):
            self.fetched += tasks
        elif tasks:
            self.give(tasks)
        elif self.outbox:
            self.line.call_within(0)
        elif not self.child.running:
            self.line.next_call = now + reply.get("wait", 1.0)
        return True

    def header(self, sent: Parcel, want: int, holding: "list[tuple[int, int]]") -> "dict[str, Any]":
        """Return what an exchange says."""
        leaving = None
        if self.leaving is not None:
            seconds = max(0.0, self.leaving.until - time.monotonic())
            leaving = {"reason": self.leaving.reason, "seconds": round(seconds, 1)}
        return dict(sent.header, want=want, holding=runs(holding), leaving=leaving)

    def note_late(self, count: int) -> None:
        """Say once in a while that others had been quicker."""
        if count and len(str(self.late + count)) > len(str(self.late or "")):
            self.line.log("%d outcomes came too late: the server had others of the same tasks" % (self.late + count))
        self.late += count

    def drop(self, tasks: "set[int]") -> None:
        """Stop running tasks that have ended elsewhere."""
        child = self.child
        found, _ = child.collect(0)
        self.take(found)
        if any(index in tasks for index in child.running):
            kept = child.recall() + self.fetched
            self.fetched = [task for task in kept if task[0] not in tasks]
            if any(index in tasks for index in child.running):
                self.take(child.finish())
                child.close()
                end_orphans()
                self.child = self.new_child()
        self.fetched = [task for task in self.fetched if task[0] not in tasks]
        self.outbox.drop(tasks)

    def spool(self) -> None:
        """Leave the outcomes that the server does not have in files. It collects them."""
        count = len(self.outbox)
        if not count:
            return
        line = self.line
        directory = os.path.join(self.secret["directory"], "spool")
        try:
            name = os.path.join(directory, line.about["worker"])
            self.outbox.spool(name, lambda sent: line.signed(self.header(sent, 0, [])))
        except OSError as error:
            line.log("%d outcomes are lost: they cannot be written to %s: %s" % (len(self.outbox), directory, error))
        else:
            line.log("%d outcomes wait for the server in %s" % (count, directory))


def time_to_deliver(seconds: float) -> float:
    """Return which part of the time that a worker has left is for ending its task and delivering."""
    return min(10.0, max(0.5, seconds / 3))
