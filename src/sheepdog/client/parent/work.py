"""The work: the tasks that this worker has, those that its child runs and those that wait here."""

import json
import signal
import time

from ..processes import end_orphans
from ..wire.limits import (
    FAILING,
    FETCH_AHEAD,
    LISTEN_PAUSE,
    LOADING,
    SUSPENDED,
    TRIM_PAUSE,
    TRIM_PAUSE_BUSY,
)
from ..wire.outcomes import DIED, INTERRUPTED, INTERRUPTION, RESULT, TIMEOUT
from ..wire.records import Records, heads_in, number_of, taken_apart
from .autopsy import autopsy, death
from .child import Child
from .files import Files
from .pace import Pace
from .server import Holding
from .signals import WARNINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.frames import Blob, Task
    from ..wire.outcomes import Outcome
    from .autopsy import Autopsy
    from .server import Reply, Server
    from .signals import Signals

STOPPED = "the task was stopped: it has ended elsewhere, or was cancelled"


def failures_at_the_end(found: "list[Outcome | Records]", before: int) -> int:
    """Return how many of the last tasks failed, one after the other; so many had before these."""
    count = 0
    for item in reversed(found):
        if isinstance(item, Records) and not item.failed:
            return count
        kinds = [head[2] for _, head in heads_in(item.data)] if isinstance(item, Records) else [item.kind]
        for kind in reversed(kinds):
            if kind == RESULT:
                return count
            count += 1
    return before + count


class Work(object):
    """A child, which is replaced when it ends, and its tasks. Making one starts the child."""

    def __init__(
        self, server: "Server", secret: "dict[str, Any]", function: "list[Blob]", signals: "Signals", last: float
    ) -> None:
        self.server = server
        self.secret = secret
        self.function = function
        self.files = Files(secret["directory"], function[0])
        self.signals = signals
        self.timeout = secret["timeout"]  # type: float | None
        self.stuck = secret.get("stuck")  # type: float | None  # seconds of a task after which those behind it go back
        self.pace = Pace(last)
        self.others_wait = False  # for tasks of this worker to begin, as far as the server knows
        self.fetched = []  # type: list[Task]  # for when the child has ended its present batch
        self.checkpoints = {}  # type: dict[int, Blob]  # of tasks that another worker had, by their indices
        self.fetch_ahead = False  # the next batch while the present one runs
        self.ends = False  # are no more tasks to begin?
        self.trial = secret.get("trial")  # type: list[Any] | None  # names to look up, if it is tried before there are tasks
        self.tries = False  # has that begun?
        self.early_deaths = 0  # of children that had not started a task
        self.failing = 0  # tasks in a row, the last ones, that failed
        self.partings = 0  # of children that the function had left unfit
        self.child = self._new_child()

    def _new_child(self) -> Child:
        return Child(self.secret, self.function[0], self.function[1], self.signals)

    def close(self) -> None:
        """End the child and what it started."""
        self.child.kill()
        end_orphans()

    # --- tasks

    @property
    def holding(self) -> Holding:
        """What the server is told of it."""
        child = self.child
        tasks = [(index, attempt) for index, (attempt, _) in child.running.items()]
        running = list(tasks[0]) + [round(time.monotonic() - child.since, 3)] if tasks else None
        return Holding(tasks + [(index, attempt) for index, attempt, _ in self.fetched], running)

    def affordable(self) -> int:
        """Return how many tasks to ask for."""
        return self.pace.affordable(len(self.child.running) + len(self.fetched))

    def accept(self, reply: "Reply") -> None:
        """Take the tasks of a reply. The child begins with them if it has none."""
        held = [index for index, _ in self.holding.tasks] if self.checkpoints else []
        self.checkpoints = {index: self.checkpoints[index] for index in held if index in self.checkpoints}
        self.checkpoints.update(reply.checkpoints)
        self.files.take(reply.functions)
        self.files.note(reply.tasks)
        self.fetched += reply.tasks
        self.others_wait = self.stuck is not None and len(self.holding.tasks) > 1
        if not self.child.running:
            self.give_fetched()

    def lacking(self) -> "list[bytes]":
        """Return the hashes of what the fetched tasks, or the trial, need and that is not here."""
        return self.files.lacking(self.fetched) if self.fetched or self.trial is not None else []

    def give_fetched(self) -> bool:
        """Hand the child what was fetched while it was busy, if all is here; tell whether there was any."""
        if not self.fetched or self.lacking():
            return False
        fetched, self.fetched = self.fetched, []
        self.give(self.in_one_bundle(fetched))
        return True

    def in_one_bundle(self, tasks: "list[Task]") -> "list[Task]":
        """Return the first tasks, so far as one process can run them: it has the modules of one bundle."""
        first, count = self.files.of_one_bundle(tasks)
        if first and self.child.bundle not in (b"", first):
            self.take(self.child.finish())
            self.child.close()
            end_orphans()
            self.child = self._new_child()
        self.fetched = tasks[count:]
        return tasks[:count]

    def give(self, tasks: "list[Task]") -> None:
        """Hand the child a batch."""
        if self.child.parting is not None:
            self.replace_child()
        self.pace.begin()
        quick = self.pace.want >= FETCH_AHEAD and self.stuck is None  # else others may need them sooner
        self.fetch_ahead = len(tasks) >= (2 if quick else FETCH_AHEAD)
        self._hand(tasks)

    def _hand(self, tasks: "list[Task]") -> None:
        """Hand the child tasks with what they need."""
        self.child.bundle = self.files.of_one_bundle(tasks)[0] or self.child.bundle
        self.child.give(tasks, self.checkpoints, self.files.needed_by(tasks))

    def try_out(self, seconds: float) -> "str | None":
        """Let the child load the function before it has a task. Return why it cannot, or "", once that is known."""
        child = self.child
        if not self.tries:
            self.tries = True
            files = self.files.needed_by([])
            files[b""] = json.dumps(self.trial).encode()
            child.bundle = self.files.bundle_for()
            child.give([], {}, files)
        self.take(child.collect(seconds)[0])
        if child.tried is None and not child.has_ended() and time.monotonic() < child.started + LOADING:
            return None
        if not child.tried:  # it can; or else its first task will tell
            self.trial = None
        return child.tried or ""

    def hand_back(self) -> int:
        """Part with the tasks that have not begun: the next call does not name them. Return how many."""
        count = len(self.child.recall()) + len(self.fetched)
        self.fetched = []
        return count

    def drop(self, tasks: "set[int]") -> None:
        """Stop running tasks that have ended elsewhere; the end of what one has printed is told."""
        child, cut = self.child, []  # type: Child, list[Outcome]
        self.take(child.collect(0)[0])
        if any(index in tasks for index in child.running):
            self.fetched = child.recall() + self.fetched
            if any(index in tasks for index in child.running):
                self.take(child.finish())
                output, seconds = child.capture.end(), time.monotonic() - child.since
                for index, (attempt, _) in child.running.items() if output else ():
                    cut.append(death(child, index, attempt, INTERRUPTED, STOPPED, seconds, output))
                child.close()
                end_orphans()
                self.child = self._new_child()
        self.fetched = [task for task in self.fetched if task[0] not in tasks]
        self.server.outbox.drop(tasks)
        self.server.outbox.add(cut)

    # --- the child

    def listen(self, limit: float = float("inf")) -> None:
        """Take what the child has to say, until it is time for something else; take back what it cannot start soon."""
        child = self.child
        waiting = len(child.running) - 1 + len(self.fetched)
        listens = self.ends or not self.server.outbox.full
        before = time.monotonic()
        found, ended = child.collect(min(limit, self._next_look(before, waiting)) - before, listens)
        said, failing = len(child.incoming.messages), self.failing
        self.take(found)
        now = time.monotonic()
        if now - before > SUSPENDED or not listens:
            # Nothing here waits for so long: the job was stopped, the child with it. Or the child is made to wait.
            child.since += now - before
        if ended or (child.verdict is not None and (now >= child.kill_at or not child.running)):
            self.replace_child()
        elif self.timeout and child.running and now >= child.overdue(self.timeout):
            self._end_overdue(self.timeout)
        elif child.running and failing < FAILING <= self.failing:
            self._give_back("the last %d failed" % self.failing)
        elif child.running:
            self._let_it_run(number_of(found), said, waiting, now)
        if found:
            self.server.rhythm.call_within(self.pace.patience)

    def _next_look(self, now: float, waiting: int) -> float:
        """Return when there may be something else to do than to listen."""
        child = self.child
        limits = [self.server.rhythm.next_call, now + (TRIM_PAUSE_BUSY if child.capture.trim() else TRIM_PAUSE)]
        if waiting or self.others_wait:
            limits.append(self._stuck_at())
        if child.verdict is not None:
            limits.append(child.kill_at)
        elif self.timeout:
            limits.append(child.overdue(self.timeout))
        return min(limits)

    def _stuck_at(self) -> float:
        """Return when the tasks that have not begun are to be given back."""
        at = self.child.started + self.pace.patience
        return at if self.stuck is None else min(at, max(self.child.since, self.child.started) + self.stuck)

    def _let_it_run(self, found: int, said: int, waiting: int, now: float) -> None:
        """If the child has much to say, let it, rather than wake for every word; if it is stuck, relieve it."""
        child = self.child
        each = (now - child.started) / max(1, self.pace.ended)
        if found and each < LISTEN_PAUSE / 4:
            time.sleep(min(LISTEN_PAUSE, each * len(child.running) / 2))
        elif (waiting or self.others_wait) and now >= self._stuck_at():
            child.started = now
            if self.others_wait:
                self.server.rhythm.call_within(0)
            self._give_back("one takes long")
        elif said >= 4:
            time.sleep(LISTEN_PAUSE)

    def _give_back(self, why: str) -> None:
        """Let the server give others what has not begun, and say at once what has ended."""
        back = self.hand_back()
        if back:
            self.server.log("gives %d tasks back: %s" % (back, why))
            self.server.rhythm.call_within(0)

    def take(self, found: "list[Outcome | Records]") -> None:
        """Note outcomes, and what tasks have said before them, to be delivered."""
        messages = self.child.incoming.take_messages()
        if messages:
            self.server.say(messages)
        if self.child.lacking:
            self.server.tell(self.child.lacking)
            self.child.lacking = []
        if not found:
            return
        self.early_deaths = 0
        self.failing = failures_at_the_end(found, self.failing)
        self.pace.note(found)
        if self.child.verdict is not None:
            kind, text = self.child.verdict
            found = [
                o if o.kind == RESULT else o._replace(kind=kind, value=text.encode() + b"\n" + o.value)
                for o in taken_apart(found)
            ]
        self.server.outbox.add(found)

    def _end_overdue(self, timeout: float) -> None:
        """End the task that runs, and no other: those behind it are kept for the next child."""
        child = self.child
        self.fetched = child.recall() + self.fetched
        self.take(child.collect(0)[0])
        if not child.running or time.monotonic() < child.overdue(timeout):
            return  # it has just ended; another has perhaps begun
        text = "the task took longer than its timeout of %g s and was ended" % timeout
        if not child.loaded:
            text = "the function was not loaded within %g s, and its process was ended" % (LOADING + timeout)
        child.terminate(TIMEOUT, text)

    def replace_child(self) -> None:
        """Report the task that the child died of, and let another go on with the rest."""
        child = self.child
        found = autopsy(child)
        self.take(found.found)
        outcome = found.outcome
        if outcome is not None:
            outcome = self._interrupted(outcome)
        if child.parting:
            self._note_parting(child.parting)
        elif child.parting is None and child.verdict is None:
            self.server.log("the task's process " + found.how)
            if outcome is None and found.left:
                outcome = self._early_death(found)
        if outcome is not None:
            self.server.outbox.add([outcome])
        end_orphans()
        self.pace.replace()
        self.child = self._new_child()
        if found.left and not self.ends:
            self._hand(found.left)

    def _interrupted(self, outcome: "Outcome") -> "Outcome":
        """Return the outcome of a task; it counts as interrupted if it died of the scheduler's own signal."""
        if outcome.kind != DIED or outcome.signal not in (signal.SIGTERM, signal.SIGKILL):
            return outcome
        if not self.signals.warning:  # schedulers signal all processes of a job; this one may have been the first
            self.signals.sleep(0.1)
        if not self.signals.warning:
            return outcome
        text = INTERRUPTION + WARNINGS[self.signals.warning]
        return outcome._replace(kind=INTERRUPTED, value=text.encode())

    def _note_parting(self, why: str) -> None:
        self.partings += 1
        if self.partings == 1:
            text = "goes on with a fresh process, now and whenever the function leaves its own changed: "
            self.server.log(text + why)

    def _early_death(self, found: "Autopsy") -> "Outcome | None":
        """Count the children that had not started a task; the third takes one with it, or that would go on for ever."""
        self.early_deaths += 1
        if self.early_deaths < 3:
            return None
        self.early_deaths = 0
        index, attempt, _ = found.left.pop(0)
        text = "the task's process %s before it could start the task" % found.how
        return death(self.child, index, attempt, DIED, text)
