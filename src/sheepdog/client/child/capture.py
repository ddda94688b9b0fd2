"""The capture of what tasks print.

The child takes the end and empties the file; the parent frees what is too much of it. Each does so under a lock.
"""

import contextlib
import fcntl
import os
import resource
import sys
import tempfile

from ..wire.limits import CHUNK, MAX_OUTPUT
from .descriptors import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KEEP_SIZE, PUNCH_HOLE = 1, 2  # of fallocate(2)


class Capture(object):
    """What the task prints: both of its streams, into one file that the parent can read when the child is dead."""

    def __init__(self, most: int = MAX_OUTPUT) -> None:
        self.most = most  # bytes of a task's output that are kept: its end
        try:
            self.file = tempfile.TemporaryFile(buffering=0)
        except OSError:  # a full or missing temporary directory is no reason not to compute
            self.file = open(os.devnull, "wb+", buffering=0)
        self.fd = self.file.fileno()
        self.identity = identity(self.fd)
        self.size = 0  # when the parent looked last
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_APPEND)  # it is cut down while others write

    def redirect(self) -> None:
        """Send the streams of this process into the file."""
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        self.streams = [open(fd, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False) for fd in (1, 2)]
        sys.stdout, sys.stderr = self.streams
        vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)

    def take(self) -> bytes:
        """Return the end of what was printed, and empty the file; undo what the function did to its streams."""
        same = self.flush()
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        if not same:
            self.redirect()
        return self.end()

    def flush(self) -> bool:
        """Write what is in the streams; tell whether they are ours, and open."""
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:
            return False
        out, err = self.streams
        return sys.stdout is out and sys.stderr is err

    def trim(self) -> bool:
        """Forget all but the end of what is printed, if it is much: the node's disk is not ours to fill.

        Return whether much has come since the last time.
        """
        with locked(self.fd, fcntl.LOCK_NB) as free:
            if not free:  # the child empties it just now, or was stopped while it did
                return False
            state = os.fstat(self.fd)
            grown = state.st_size - self.size
            self.size = state.st_size
            if state.st_blocks * 512 > CHUNK + self.most and not punch(self.fd, self.size - self.most):
                tail = os.pread(self.fd, self.most, self.size - self.most)
                os.ftruncate(self.fd, 0)  # what was printed since the line before is lost
                os.write(self.fd, b"... left out ...\n" + tail)
                self.size = 0
            return grown > max(self.most, MAX_OUTPUT)

    def end(self) -> bytes:
        """Return the end of the file, and empty it."""
        if not os.fstat(self.fd).st_size:
            return b""
        with locked(self.fd):
            size = os.fstat(self.fd).st_size
            output = os.pread(self.fd, self.most, max(0, size - self.most))
            os.ftruncate(self.fd, 0)
        if size <= self.most or not self.most:
            return output
        return b"... %d bytes left out ...\n" % (size - self.most) + output


@contextlib.contextmanager
def locked(fd: int, flags: int = 0) -> "Iterator[bool]":
    """Lock a file against other processes that do so; False if one has it and we shall not wait.

    Where the file system has no locks, go on without.
    """
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | flags)
    except OSError as error:
        yield not isinstance(error, BlockingIOError)
        return
    try:
        yield True
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


def punch(fd: int, length: int) -> bool:
    """Give the first bytes of a file back to the disk, and leave the rest where it is. Return whether that went."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and length > limit // 2:
        return False  # the file's length counts, not what it takes
    try:
        import ctypes

        library = ctypes.CDLL(None)
        fallocate = getattr(library, "fallocate64", None) or library.fallocate
        return bool(fallocate(fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(length)) == 0)
    except (ImportError, AttributeError, OSError):
        return False
