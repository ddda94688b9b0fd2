"""The child's end of the pipe to its parent: it holds whatever the function did to its descriptors."""

import fcntl
import os
import struct

from ..wire.limits import COPIED
from ..wire.records import NO_STATUS, RECORD
from .capture import Capture
from .descriptors import F_GETSIG, MARK, identity, mark, move_up, write_all

LOADED, PARTING, LACKING, TRIED = range(4)  # with index 0 the child speaks of itself: the function is loaded; why it
# ends now; for which module that it could not import another stands in; why the function cannot be loaded here, or ""
# index, attempt, bytes of arguments, bytes of its checkpoint: 0 if there is none. With index 0 it is a function that
# calls name, which is to be forgotten if it has no bytes, and its hash. Without a hash, it is what is to be tried.
TASK = struct.Struct("!QIQQ")
NO_PIPE = 77  # the exit status of a child that cannot report any more


class Pipe(object):
    """The child's end of the pipe to its parent, and the file of what it prints."""

    def __init__(self, fd: int, capture: Capture, parent: int, spare: "tuple[int, int]") -> None:
        self.fd = move_up(fd)
        self.capture = capture
        capture.fd = move_up(capture.fd)
        self.parent = parent
        self.spare = spare  # the parent's numbers for the pipe and the captured output
        self.identities = identity(self.fd), capture.identity
        self.marked = mark(self.fd) and mark(capture.fd)

    def is_whole(self) -> bool:
        """Tell whether the function left the worker's descriptors alone. If not, they might be its own files by now."""
        try:
            if self.marked:
                return bool(fcntl.fcntl(self.fd, F_GETSIG) == MARK == fcntl.fcntl(self.capture.fd, F_GETSIG))
            return (identity(self.fd), identity(self.capture.fd)) == self.identities
        except OSError:
            return False

    def is_quiet(self) -> bool:
        """Tell whether the function has printed nothing, and left the streams and the pipe alone. For most it is so."""
        capture = self.capture
        if not self.marked or not capture.flush():
            return False
        try:  # the marks are of open files: descriptors that share one have the same
            if not fcntl.fcntl(self.fd, F_GETSIG) == fcntl.fcntl(1, F_GETSIG) == fcntl.fcntl(2, F_GETSIG) == MARK:
                return False
            return not os.lseek(1, 0, os.SEEK_END)
        except OSError:
            return False

    def open_again(self) -> None:
        """Get the pipe and the file of the output from the parent."""
        os.closerange(3, 1024)  # there may be no number left
        try:
            self.fd = os.open("/proc/%d/fd/%d" % (self.parent, self.spare[0]), os.O_WRONLY)
            self.capture.fd = os.open("/proc/%d/fd/%d" % (self.parent, self.spare[1]), os.O_RDWR | os.O_APPEND)
            if (identity(self.fd), identity(self.capture.fd)) == self.identities:
                return
        except OSError:
            pass
        os._exit(NO_PIPE)

    def send(self, head: bytes, value: bytes = b"", output: bytes = b"") -> None:
        """Write a message to the parent."""
        if len(value) < COPIED:
            write_all(self.fd, head + value + output)
        else:
            for part in (head, value, output):
                write_all(self.fd, part)

    def part(self, why: str) -> None:
        """End this process as the parent expects it: nothing is wrong, but it takes no more tasks."""
        text = why.encode()
        self.send(RECORD.pack(0, 0, PARTING, 0.0, NO_STATUS, 0, len(text), 0), text)
        os._exit(0)
