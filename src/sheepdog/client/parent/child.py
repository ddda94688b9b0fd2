"""The child: the process that runs the function, seen from the parent."""

import collections
import os
import select
import signal
import struct
import tempfile
import time
import traceback

from ..child.capture import Capture
from ..child.pipe import LOADED, NO_PIPE, OUTCOME, TASK, Pipe
from ..child.runner import run_child, settle_in
from ..memory import group_limits, memory_kills, resident
from ..wire.frames import chunks_of, size_of
from ..wire.limits import CHUNK, IN_MEMORY, KILL_GRACE, LOADING
from ..wire.messages import CHECKPOINT, REPORT, Message, weight
from ..wire.outcomes import DIED, MEMORY, Outcome
from ..words import out_of_memory
from .signals import WARNINGS, Signals, be_a_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO  # noqa: F401 (named in a comment)

    from ..wire.frames import Blob, Task


class Child(object):
    """The process that runs the function, seen from the parent."""

    def __init__(
        self, secret: "dict[str, Any]", function: "Blob", namespace: "Blob", signals: "Signals | None" = None
    ) -> None:
        # index -> attempt, arguments; in the order of running
        self.running = collections.OrderedDict()  # type: collections.OrderedDict[int, tuple[int, Blob]]
        self.secret = secret
        self.signals = signals
        self.capture = Capture()
        self.started = time.monotonic()  # of the batch
        self.since = self.started  # of the present task: it began then, or later
        self.loaded = False  # has the function been?
        self.parting = None  # type: str | None  # why it ends, if it has said so itself
        self.verdict = None  # type: tuple[int, str] | None  # kind and sentence for a task that is being ended
        self.kill_at = 0.0  # if that does not end it
        self.status = None  # type: int | None
        self.peak = 0  # bytes of memory, once it has ended
        self.messages = []  # type: list[Message]  # that nobody has taken yet
        self.weight = 0  # of these
        self.said = 0  # messages so far
        self.buffer = bytearray()
        # an outcome or a message whose value is on its way into a file: that, the bytes that are missing, its head
        self.large = None  # type: tuple[BinaryIO, int, Any] | None
        tasks, self.tasks = os.pipe()
        tokens, self.tokens = os.pipe()
        # The function may close its end of this pipe and go on: so the end of the child is not the end of the pipe.
        self.outcomes, self.spare_outcomes = os.pipe()
        self.number = 0  # of the batch, and the value of its tokens
        self.spare_tokens = os.dup(tokens)
        os.set_blocking(tokens, False)
        self.kills = memory_kills()
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(WARNINGS) + [signal.SIGCHLD])
        self.pid = os.fork()
        if self.pid == 0:
            try:
                be_a_child()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                blobs = [b"".join(chunks_of(blob)) for blob in (function, namespace)]
                outcomes = os.dup(self.spare_outcomes)
                for fd in range(3, 1024):
                    if fd not in (tasks, tokens, outcomes, self.capture.fd):
                        try:
                            os.close(fd)
                        except OSError:
                            pass
                settle_in(parent, secret)
                spare = (self.spare_outcomes, self.capture.fd)
                run_child(Pipe(outcomes, self.capture, parent, spare), (tasks, tokens), secret, blobs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in (tasks, tokens):
            os.close(fd)
        os.set_blocking(self.outcomes, False)
        os.set_blocking(self.tasks, False)

    def give(self, tasks: "list[Task]", checkpoints: "dict[int, Blob] | None" = None) -> None:
        """Hand tasks, (index, attempt, blob), to a child that has none; and checkpoints of some, by index."""
        for index, attempt, blob in tasks:
            self.running[index] = (attempt, blob)
        self.number = (self.number + 1) % 256
        os.write(self.tokens, bytes([self.number]) * len(tasks))
        self.started = self.since = time.monotonic()
        try:
            out = bytearray(struct.pack("!I", len(tasks)))
            for index, attempt, blob in tasks:
                blobs = [blob, checkpoints[index]] if checkpoints and index in checkpoints else [blob]
                out += TASK.pack(index, attempt, size_of(blob), size_of(blobs[1]) if len(blobs) > 1 else 0)
                for each in blobs:
                    for chunk in chunks_of(each):
                        out += chunk
                        if len(out) >= CHUNK:
                            self._send(out)
                            out = bytearray()
            self._send(out)
        except BrokenPipeError:
            pass  # it is dead: collect() says so

    def _send(self, data: "bytes | bytearray") -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.tasks, view) :]
            except BlockingIOError:
                if self._has_ended():  # a process that it forked may hold the pipe open
                    raise BrokenPipeError
                select.select([], [self.tasks], [], 1.0)

    def recall(self) -> "list[Task]":
        """Take back the tasks that the child has not started; return them."""
        count = self._take_tokens()
        back = []
        for index in list(self.running)[len(self.running) - count :]:
            attempt, blob = self.running.pop(index)
            back.append((index, attempt, blob))
        return back

    def _take_tokens(self) -> int:
        try:
            return len(os.read(self.spare_tokens, 65536))
        except BlockingIOError:
            return 0

    def collect(self, timeout: float, listen: bool = True) -> "tuple[list[Outcome], bool]":
        """Wait for the child to say something, a second at most. Return its outcomes, and whether it has ended.

        What its tasks say meanwhile is in messages. If not listen, it is heard only when it has ended: until then it
        waits, once it has said as much as a pipe holds.
        """
        timeout = min(1.0, max(0.0, timeout))
        if self.signals is not None:
            ready = self.signals.wait(self.outcomes if listen else -1, timeout)
        else:
            ready = bool(select.select([self.outcomes] if listen else [], [], [], timeout)[0])
        if not ready and not self._has_ended():
            return [], False
        found = []  # type: list[Outcome]
        while True:
            try:
                data = os.read(self.outcomes, CHUNK)
            except BlockingIOError:
                return found, self.status is not None
            found.extend(self._parse(data, time.monotonic()))
            if self.weight > IN_MEMORY and self.status is None:  # it may go on and on
                return found, False

    def take_messages(self) -> "list[Message]":
        """Return what its tasks have said since this was last asked."""
        messages, self.messages, self.weight = self.messages, [], 0
        return messages

    def _has_ended(self) -> bool:
        if self.status is None:
            self._wait(os.WNOHANG)
        return self.status is not None

    def _wait(self, options: int) -> None:
        pid, status, usage = os.wait4(self.pid, options)
        if pid:
            self.status = status
            self.peak = resident(usage)

    def _parse(self, data: bytes, now: float) -> "Iterator[Outcome]":
        self.buffer += data
        while True:
            if self.large is not None:
                spool, missing, head = self.large
                part = self.buffer[:missing]
                spool.write(part)
                del self.buffer[: len(part)]
                self.large = (spool, missing - len(part), head)
                if head[2] not in (REPORT, CHECKPOINT):
                    self.since = now
                if missing > len(part) or len(self.buffer) < head[5]:
                    return
                value = spool  # type: Blob
            else:
                if len(self.buffer) < OUTCOME.size:
                    return
                head = OUTCOME.unpack_from(self.buffer)
                if head[4] > IN_MEMORY:
                    del self.buffer[: OUTCOME.size]
                    self.large = (tempfile.TemporaryFile(), head[4], head)
                    continue
                if len(self.buffer) < OUTCOME.size + head[4] + head[5]:
                    return
                value = bytes(self.buffer[OUTCOME.size : OUTCOME.size + head[4]])
                del self.buffer[: OUTCOME.size + head[4]]
            output = bytes(self.buffer[: head[5]])
            del self.buffer[: head[5]]
            self.large = None
            if head[2] in (REPORT, CHECKPOINT):
                self.said += 1
                self.messages.append(Message(head[0], head[1], head[2], self.said, value))
                self.weight += weight(self.messages[-1])
                continue
            self.since = now
            if head[0]:
                self.running.pop(head[0], None)
                yield Outcome(head[0], head[1], head[2], head[3], value, output)
            elif head[2] == LOADED:
                self.loaded = True
            else:
                self.parting = value.decode()

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

    def autopsy(self) -> "tuple[str, list[Outcome], Outcome | None, list[Task]]":
        """Return how a child ended, what it had still to say, the task it died of, if any, and the tasks it left."""
        deadline = time.monotonic() + (1.0 if self.parting is not None else 0.0)
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.002)
        status = self.status
        found = self.finish()
        if status is None:
            how = "was ended"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            names = {int(s): s.name for s in signal.Signals}
            how = "was killed by signal %d (%s)" % (number, names.get(number, "?"))
        elif os.WEXITSTATUS(status) == NO_PIPE:
            how = "closed all its files, the worker's too"
        else:
            how = "exited with status %d" % os.WEXITSTATUS(status)
        left = self.recall()
        outcome = None
        if self.running:  # it had a token for this one
            index, (attempt, _) = next(iter(self.running.items()))
            kind, text = self.verdict or self._cause_of_death(how)
            seconds = time.monotonic() - self.since
            outcome = Outcome(index, attempt, kind, seconds, text.encode(), self.capture.end())
        self.running.clear()
        self.close()
        return how, found, outcome, left

    def finish(self) -> "list[Outcome]":
        """End the child; return the outcomes that it had still to tell."""
        self._end()
        return self.collect(0)[0]

    def _cause_of_death(self, how: str) -> "tuple[int, str]":
        kills = memory_kills()
        killed = self.killed_by() == signal.SIGKILL
        if killed and len(kills) == len(self.kills) and any(now > before for now, before in zip(kills, self.kills)):
            limit = self.secret.get("memory_limit")
            return MEMORY, out_of_memory(self.peak, group_limits() + ([limit] if limit else []))
        if self.status is not None and os.WIFEXITED(self.status) and os.WEXITSTATUS(self.status) == NO_PIPE:
            return DIED, "the task's process %s: the outcome was lost" % how
        return DIED, "the task's process %s before the function returned" % how

    def killed_by(self) -> int:
        """Return the number of the signal that ended the child; 0 if none did."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else 0

    def close(self) -> None:
        """Close the pipes and the captured output."""
        for fd in (self.tasks, self.tokens, self.spare_tokens, self.outcomes, self.spare_outcomes):
            os.close(fd)
        self.capture.file.close()

    def kill(self) -> None:
        """End the child and what it started; close everything."""
        self._end()
        self.close()

    def _end(self) -> None:
        """End the child, if it has not ended, and its process group."""
        if not self._has_ended():
            os.kill(self.pid, signal.SIGKILL)
        self._signal_group(signal.SIGKILL)
        if self.status is None:
            self._wait(0)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass
