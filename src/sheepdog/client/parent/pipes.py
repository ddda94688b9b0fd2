"""The pipes to a child: tasks there, outcomes back, and a token for each task, which one of the two takes."""

import fcntl
import os
import select
import struct
import sys

from ..child.pipe import TASK
from ..wire.frames import chunks_of, size_of
from ..wire.limits import CHUNK, COPIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any  # noqa: F401 (named in a comment)

    from ..wire.frames import Blob, Task


SET_SIZE = 1031  # F_SETPIPE_SZ of Linux, for which fcntl has no name before Python 3.10


class Pipes(object):
    """The parent's ends of the pipes, and until the fork the child's."""

    def __init__(self) -> None:
        self.child_tasks, self.tasks = os.pipe()
        self.child_tokens, self.tokens = os.pipe()
        # The function may close its end of this pipe and go on: so the end of the child is not the end of the pipe.
        self.outcomes, self.spare_outcomes = os.pipe()
        for fd in (self.tasks, self.outcomes):
            widen(fd)
        self.number = 0  # of the batch, and the value of its tokens
        self.spare_tokens = os.dup(self.child_tokens)
        os.set_blocking(self.child_tokens, False)

    def forked(self) -> None:
        """Leave the child's ends to it."""
        os.close(self.child_tasks)
        os.close(self.child_tokens)
        os.set_blocking(self.outcomes, False)
        os.set_blocking(self.tasks, False)

    def give_tokens(self, count: int) -> None:
        """Lay out the tokens of a new batch."""
        self.number = (self.number + 1) % 256
        os.write(self.tokens, bytes([self.number]) * count)

    def take_tokens(self) -> int:
        """Take back the tokens that the child has not taken; return how many."""
        try:
            return len(os.read(self.spare_tokens, 65536))
        except BlockingIOError:
            return 0

    def send(
        self,
        tasks: "list[Task]",
        checkpoints: "dict[int, Blob]",
        functions: "dict[bytes, Blob]",
        has_ended: "Callable[[], bool]",
    ) -> None:
        """Write a batch, and before it the functions that it needs; BrokenPipeError if the child has ended."""
        out = bytearray(struct.pack("!I", len(functions) + len(tasks)))
        parts = [(0, 0, function, name) for name, function in functions.items()]  # type: list[tuple[Any, ...]]
        parts += [(index, attempt, blob, checkpoints.get(index, b"")) for index, attempt, blob in tasks]
        for index, attempt, blob, more in parts:
            if isinstance(blob, bytes) and not more and len(blob) < COPIED:  # nearly all
                out += TASK.pack(index, attempt, len(blob), 0) + blob
            else:
                out += TASK.pack(index, attempt, size_of(blob), size_of(more))
                for each in (blob, more):
                    for chunk in chunks_of(each):
                        self._write(out, has_ended)
                        self._write(chunk, has_ended)
                        out = bytearray()
            if len(out) >= CHUNK:
                self._write(out, has_ended)
                out = bytearray()
        self._write(out, has_ended)

    def _write(self, data: "bytes | bytearray", has_ended: "Callable[[], bool]") -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.tasks, view) :]
            except BlockingIOError:
                if has_ended():  # a process that it forked may hold the pipe open
                    raise BrokenPipeError
                select.select([], [self.tasks], [], 1.0)

    def close(self) -> None:
        """Close the parent's ends."""
        for fd in (self.tasks, self.tokens, self.spare_tokens, self.outcomes, self.spare_outcomes):
            os.close(fd)


def widen(fd: int) -> None:
    """Let a pipe hold more than usual, if it can: with large values, each end waits for the other less often."""
    if sys.platform.startswith("linux"):
        try:
            fcntl.fcntl(fd, SET_SIZE, CHUNK)
        except OSError:  # this user's pipes hold much already
            pass
