"""Descriptors: written to, told from others, and kept out of the way of functions."""

import fcntl
import os

F_SETSIG, F_GETSIG = getattr(fcntl, "F_SETSIG", -1), getattr(fcntl, "F_GETSIG", -1)  # Linux only
MARK = 61  # the signal that an open file of ours would send, if it were asked to send any


def write_all(fd: int, data: "bytes | bytearray") -> None:
    """Write all of the data to a pipe."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)[written:]
    while view:
        view = view[os.write(fd, view) :]


def identity(fd: int) -> "tuple[int, int]":
    """Return what a descriptor refers to; OSError if nothing."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def mark(fd: int) -> bool:
    """Mark an open file so that it can be told from others, in a third of the time of fstat; tell whether it can."""
    try:
        fcntl.fcntl(fd, F_SETSIG, MARK)
        return bool(fcntl.fcntl(fd, F_GETSIG) == MARK)
    except OSError:
        return False


def move_up(fd: int) -> int:
    """Give a descriptor a high number, where a function that closes or replaces some does not meet it by chance."""
    import resource

    high = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - 16
    if high <= fd:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(fd)
    return moved
