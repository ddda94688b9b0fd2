"""Processes: what one asks the kernel for itself, its parent and its children."""

import os
import signal
import sys
import time


def prctl(option: int, value: int) -> None:
    """Tell the kernel something about this process, on Linux."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            pass


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends. Elsewhere than on Linux, a closed pipe does it."""
    prctl(1, int(signal.SIGKILL))
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none escapes. Linux only."""
    prctl(36, 1)


def has_processes(family: int = -1) -> bool:
    """Tell whether this process has children that live; bury those that have ended.

    family is a descriptor of Linux's list of them: to read it takes a third of the time of an exception.
    """
    if family >= 0:
        try:
            if not os.pread(family, 1, 0):
                return False
        except OSError:
            pass
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def end_orphans() -> None:
    """End all children of this process: what the function's process left behind when it ended."""
    end = time.monotonic() + 2.0
    while has_processes() and os.path.isdir("/proc/self") and time.monotonic() < end:
        for name in os.listdir("/proc"):
            try:
                with open("/proc/%d/stat" % int(name), "rb") as file:
                    if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                        os.kill(int(name), signal.SIGKILL)
            except (OSError, ValueError):
                pass
        time.sleep(0.002)
