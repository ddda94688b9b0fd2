"""The capture of what tasks print."""

import fcntl
import os
import sys
import tempfile

from ..wire.limits import CHUNK, MAX_OUTPUT
from .descriptors import identity


class Capture(object):
    """What the task prints: both of its streams, into one file that the parent can read when the child is dead."""

    def __init__(self) -> None:
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
        out, err = self.streams
        same = sys.stdout is out and sys.stderr is err
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:
            same = False
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        if not same or out.closed or err.closed:
            self.redirect()
        return self.end()

    def trim(self) -> bool:
        """Forget all but the end of what is printed, if it is much: the node's disk is not ours to fill.

        Return whether much has come since the last time.
        """
        size = os.fstat(self.fd).st_size
        grown = size - self.size
        self.size = size
        if size > CHUNK:
            tail = os.pread(self.fd, MAX_OUTPUT, size - MAX_OUTPUT)
            os.ftruncate(self.fd, 0)
            os.write(self.fd, b"... left out ...\n" + tail)
            self.size = 0
        return grown > MAX_OUTPUT

    def end(self) -> bytes:
        """Return the end of the file, and empty it."""
        size = os.lseek(self.fd, 0, os.SEEK_END)
        if not size:
            return b""
        output = os.pread(self.fd, MAX_OUTPUT, max(0, size - MAX_OUTPUT))
        os.ftruncate(self.fd, 0)
        return output if size <= MAX_OUTPUT else b"... %d bytes left out ...\n" % (size - MAX_OUTPUT) + output
