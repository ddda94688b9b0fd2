"""Signals: the warnings of schedulers, for which whoever waits wakes up."""

import os
import select
import signal
import time

from ..wire.outcomes import DELETED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable  # noqa: F401 (named in a comment)

# The signals by which schedulers warn, and what they say. Grid Engine sends SIGUSR1 before it suspends and at a soft
# limit of time, SIGUSR2 before it kills, SIGXCPU every second at a soft limit of memory; Slurm sends SIGTERM.
WARNINGS = {
    signal.SIGUSR1: "SIGUSR1 from the scheduler (to be suspended, or its time is nearly over)",
    signal.SIGUSR2: "SIGUSR2 from the scheduler (%s)" % DELETED,
    signal.SIGTERM: "SIGTERM (%s)" % DELETED,
    signal.SIGXCPU: "SIGXCPU (a soft limit of processor time or memory was passed)",
}  # type: dict[int, str]


class Signals(object):
    """What schedulers say to this process: the first warning is kept, and whoever waits wakes up."""

    def __init__(self) -> None:
        self.warning = 0
        self.warned = 0.0  # when
        self.interrupt = lambda: None  # type: Callable[[], None]
        self.woken, self.wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self.wake, False)

    def install(self) -> None:
        """Handle the signals of this process."""
        signal.set_wakeup_fd(self.wake)
        for number in WARNINGS:
            signal.signal(number, self.note)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only wakes

    def note(self, number: int, _: object) -> None:
        """Note a warning. They come in numbers: twice, every second, with others."""
        if not self.warning:
            self.warning, self.warned = number, time.monotonic()
            self.interrupt()

    def wait(self, fd: int, seconds: float) -> bool:
        """Wait until there is something to read, a signal comes, or the time is over. Tell whether it is the first."""
        fds = [self.woken] if fd < 0 else [self.woken, fd]
        ready = select.select(fds, [], [], max(0.0, seconds))[0]
        if self.woken in ready:
            os.read(self.woken, 4096)
        return fd in ready

    def sleep(self, seconds: float) -> None:
        """Wait for a signal, so long."""
        self.wait(-1, seconds)


def be_a_child() -> None:
    """Give up the worker's signal handlers. What schedulers send to a whole group is the parent's to heed."""
    signal.set_wakeup_fd(-1)
    for number in WARNINGS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
