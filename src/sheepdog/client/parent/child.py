"""The child: the process that runs the function, seen from the parent."""

import collections
import os
import select
import signal
import time
import traceback

from ..child.capture import Capture
from ..child.pipe import LACKING, LOADED, TRIED, Pipe
from ..child.runner import run_child, settle_in
from ..memory import memory_kills, resident
from ..wire.frames import chunks_of
from ..wire.limits import CHUNK, IN_MEMORY, KEPT_FUNCTIONS, KILL_GRACE, LOADING, MAX_OUTPUT
from ..wire.outcomes import Outcome
from ..wire.records import Records
from .incoming import Incoming
from .pipes import Pipes
from .signals import WARNINGS, Signals, be_a_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..wire.frames import Blob, Task


class Child(object):
    """The process that runs the function, seen from the parent. Making one starts it."""

    def __init__(
        self, secret: "dict[str, Any]", function: "Blob", namespace: "Blob", signals: "Signals | None" = None
    ) -> None:
        # index -> attempt, arguments; in the order of running
        self.running = collections.OrderedDict()  # type: collections.OrderedDict[int, tuple[int, Blob]]
        self.functions = set()  # type: set[bytes]  # the hashes of those that it has, beside its request's
        self.bundle = b""  # the hash of the one whose modules it has; nothing as long as no task has needed any
        self.secret = secret
        self.signals = signals
        most = secret.get("max_output")
        self.capture = Capture(MAX_OUTPUT if most is None else most)
        self.pipes = Pipes()
        self.incoming = Incoming()
        self.started = time.monotonic()  # of the batch
        self.since = self.started  # of the present task: it began then, or later
        self.loaded = False  # has the function been?
        self.lacking = []  # type: list[str]  # what it says of modules that it could not import
        self.tried = None  # type: str | None  # why the function cannot be loaded here, or "", once that is known
        self.parting = None  # type: str | None  # why it ends, if it has said so itself
        self.verdict = None  # type: tuple[int, str] | None  # kind and sentence for a task that is being ended
        self.kill_at = 0.0  # if that does not end it
        self.status = None  # type: int | None
        self.peak = 0  # bytes of memory, once it has ended
        self.kills = memory_kills()
        self.pid = self._fork(function, namespace)

    def _fork(self, function: "Blob", namespace: "Blob") -> int:
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(WARNINGS) + [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            try:
                be_a_child()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                self._live(parent, [b"".join(chunks_of(blob)) for blob in (function, namespace)])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.pipes.forked()
        return pid

    def _live(self, parent: int, blobs: "list[bytes]") -> None:
        """Be the child."""
        pipes = self.pipes
        outcomes = os.dup(pipes.spare_outcomes)
        for fd in range(3, 1024):
            if fd not in (pipes.child_tasks, pipes.child_tokens, outcomes, self.capture.fd):
                try:
                    os.close(fd)
                except OSError:
                    pass
        settle_in(parent, self.secret)
        pipe = Pipe(outcomes, self.capture, parent, (pipes.spare_outcomes, self.capture.fd))
        run_child(pipe, (pipes.child_tasks, pipes.child_tokens), self.secret, blobs)

    def give(
        self,
        tasks: "list[Task]",
        checkpoints: "dict[int, Blob] | None" = None,
        functions: "dict[bytes, Blob] | None" = None,
    ) -> None:
        """Hand tasks, (index, attempt, blob), to a child that has none; and checkpoints of some, by index.

        functions are those that calls name, by their hashes: what the child has already need not be among them.
        """
        new = {name: function for name, function in (functions or {}).items() if name not in self.functions}
        gone = self.functions - set(functions or {}) if len(self.functions) > KEPT_FUNCTIONS else set()
        self.functions = (self.functions | set(new)) - gone
        new.update(dict.fromkeys(gone, b""))
        for index, attempt, blob in tasks:
            self.running[index] = (attempt, blob)
        self.pipes.give_tokens(len(tasks))
        self.started = self.since = time.monotonic()
        try:
            self.pipes.send(tasks, checkpoints or {}, new, self.has_ended)
        except BrokenPipeError:
            pass  # it is dead: collect() says so

    def recall(self) -> "list[Task]":
        """Take back the tasks that the child has not started; return them."""
        count = self.pipes.take_tokens()
        back = []
        for index in list(self.running)[len(self.running) - count :]:
            attempt, blob = self.running.pop(index)
            back.append((index, attempt, blob))
        return back

    def collect(self, timeout: float, listen: bool = True) -> "tuple[list[Outcome | Records], bool]":
        """Wait for the child to say something, a second at most. Return its outcomes, and whether it has ended.

        What its tasks say meanwhile is in incoming. If not listen, it is heard only when it has ended: until then it
        waits, once it has said as much as a pipe holds.
        """
        timeout = min(1.0, max(0.0, timeout))
        outcomes = self.pipes.outcomes
        if self.signals is not None:
            ready = self.signals.wait(outcomes if listen else -1, timeout)
        else:
            ready = bool(select.select([outcomes] if listen else [], [], [], timeout)[0])
        if not ready and not self.has_ended():
            return [], False
        found = []  # type: list[Outcome | Records]
        while True:
            try:
                data = os.read(outcomes, CHUNK)
            except BlockingIOError:
                return found, self.status is not None
            found.extend(self._hear(data))
            if self.incoming.weight > IN_MEMORY and self.status is None:  # it may go on and on
                return found, False

    def _hear(self, data: bytes) -> "Iterator[Outcome | Records]":
        now = time.monotonic()
        for found in self.incoming.feed(data):
            self.since = now
            if isinstance(found, Records):
                for index in found.tasks:
                    self.running.pop(index, None)
                yield found
                continue
            (index, attempt, kind, seconds, status, peak, _, _), value, output = found
            if index:
                self.running.pop(index, None)
                yield Outcome(index, attempt, kind, seconds, value, output, 0, None if status < 0 else status, peak)
            elif kind == LOADED:
                self.loaded = True
            elif kind == LACKING:
                self.lacking.append(value.decode())
            elif kind == TRIED:
                self.tried = value.decode("utf-8", "replace")
            else:
                self.parting = value.decode()
        if self.incoming.in_outcome:
            self.since = now

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        if self.status is None:
            self._wait(os.WNOHANG)
        return self.status is not None

    def _wait(self, options: int) -> None:
        pid, status, usage = os.wait4(self.pid, options)
        if pid:
            self.status = status
            self.peak = resident(usage)

    def overdue(self, timeout: float) -> float:
        """Return when the present task will have taken longer than it may."""
        return self.since + timeout + (0.0 if self.loaded else LOADING)

    def terminate(self, kind: int, text: str, grace: float = KILL_GRACE) -> None:
        """Ask the child and what it started to end. Its task has this outcome, unless it returns before."""
        kill_at = time.monotonic() + grace
        if self.verdict is None:
            self.verdict, self.kill_at = (kind, text), kill_at
            self._signal_group(signal.SIGTERM)
        self.kill_at = min(self.kill_at, kill_at)

    def finish(self) -> "list[Outcome | Records]":
        """End the child; return the outcomes that it had still to tell."""
        self._end()
        return self.collect(0)[0]

    def close(self) -> None:
        """Close the pipes and the captured output."""
        self.pipes.close()
        self.capture.file.close()

    def kill(self) -> None:
        """End the child and what it started; close everything."""
        self._end()
        self.close()

    def _end(self) -> None:
        """End the child, if it has not ended, and its process group."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
        self._signal_group(signal.SIGKILL)
        if self.status is None:
            self._wait(0)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass
