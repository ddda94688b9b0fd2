"""The worker: decides what to do next, to the end of its time."""

import sys
import time

from ..link import Refused
from ..packages import missing
from ..wire.outcomes import INTERRUPTED, INTERRUPTION
from ..wire.pythons import HERE
from .leaving import Leaving, Walltime
from .work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.frames import Blob
    from .server import Server
    from .signals import Signals


CANNOT = (
    "the worker on %s runs %s %s (%s), which cannot load this: %s: set the option `python`, not `shell`, to '%s', "
    "or let it be fit for both"
)


class Worker(object):
    """Keeps the child busy and the server informed. Making one starts its child."""

    def __init__(
        self,
        server: "Server",
        secret: "dict[str, Any]",
        settings: "dict[str, Any]",
        function: "list[Blob]",
        signals: "Signals",
        start: float,
    ) -> None:
        self.server = server
        self.rhythm = server.rhythm
        self.signals = signals
        self.walltime = Walltime(start, secret)
        said = ("max_value", "max_output", "timeout", "tasks_per_child", "form", "stuck", "trial")
        known = {key: settings.get(key) for key in said}
        secret = dict(secret, end=self.walltime.tasks_end, **known)
        self.work = Work(server, secret, function, signals, self.walltime.last)
        self.host = secret.get("host")  # type: str | None
        self.wanted = [row[0] for row in settings.get("packages", ())]  # type: list[str]
        self.made_by = settings.get("made_by", "")  # type: str  # the version of the Python that made the function
        self.leaving = None  # type: Leaving | None
        self.has_said_so = False  # that it is leaving

    def run(self) -> str:
        """Work until there is nothing left to do; return why it ends."""
        try:
            while self.step():
                pass
        except Refused:
            self.server.spool(self.leaving)
            raise
        finally:
            self.work.close()
        return self.leaving.reason if self.leaving is not None else "nothing left to do"

    def step(self) -> bool:
        """Listen to the child, or talk to the server. Return False when told to stop, or when there is no time left."""
        work, rhythm = self.work, self.rhythm
        if self.leaving is None:
            self.prepare_to_leave(self.walltime.look(self.signals))
        if self.leaving is not None:
            return self.leave(self.leaving)
        if work.trial is not None:
            return self.try_out()
        if work.child.running:
            if work.fetch_ahead and not rhythm.failures:
                work.fetch_ahead = False
                return self.exchange(work.affordable())  # so that the child need not wait for its next batch
            work.listen()
            if work.child.running:
                return self.exchange(0) if rhythm.pause <= 0 else True
        if work.fetched and work.lacking():
            return self.fetch_functions()
        work.pace.adapt()
        return True if work.give_fetched() else self.fetch()

    def try_out(self) -> bool:
        """Find out whether this Python, which is another than the one that made it, can load the function.

        Raises Refused if it cannot, and the server knows.
        """
        if self.work.lacking():
            return self.fetch_functions()
        problem = self.work.try_out(self.rhythm.pause)
        if problem:
            lacking = missing(problem, self.wanted)
            if lacking:
                self.server.join(self.signals, {"lacking": lacking})
            self.server.unfit = CANNOT % (
                (self.host,) + HERE[:2] + (sys.executable, problem, ".".join(self.made_by.split(".")[:2]))
            )
            if not self.fetch_functions():
                raise Refused(self.server.unfit)
        elif problem is None and self.rhythm.pause <= 0:
            return self.exchange(0)
        return True

    def fetch(self) -> bool:
        """Ask for tasks, when that is due. Return False when told to stop."""
        want = self.work.affordable()
        if not want:
            self.prepare_to_leave(self.walltime.too_short())
            return True
        if self.server.outbox:
            self.rhythm.call_within(0)
        pause = min(self.rhythm.pause, self.walltime.last - time.monotonic())
        if pause > 0:
            self.signals.sleep(pause)
            return True
        return self.exchange(want)

    def fetch_functions(self) -> bool:
        """Ask for the functions that calls name, as soon as that may be. Return False when told to stop."""
        if self.rhythm.failures and self.rhythm.pause > 0:
            self.signals.sleep(min(self.rhythm.pause, self.walltime.last - time.monotonic()))
            return True
        return self.exchange(0)

    def exchange(self, want: int) -> bool:
        """Report outcomes and ask for tasks, in one round trip. Return False when told to stop."""
        work = self.work
        lacking = [] if want else work.lacking()
        before = time.monotonic()
        reply = self.server.exchange(want, work.holding, self.leaving, lacking)
        if reply is None:
            return True
        if reply.prompt:
            work.pace.answered(time.monotonic() - before)
        if reply.stop:
            return False
        if reply.drop:
            work.drop(reply.drop)
        if lacking and not reply.functions:  # they are nowhere: the child will say so
            reply.functions.update(dict.fromkeys(lacking, b""))
        work.accept(reply)
        if not reply.tasks:
            if self.server.outbox:
                self.rhythm.call_within(0)
            elif not work.child.running:
                self.rhythm.call_in(reply.wait)
        return True

    # --- the end

    def prepare_to_leave(self, leaving: "Leaving | None") -> None:
        """Hand back what has not begun, and say so at once. The end of the time is for ending and delivering."""
        if leaving is None:
            return
        self.leaving = leaving
        self.server.log("leaves within %d s: %s" % (leaving.end - time.monotonic(), leaving.reason))
        self.work.ends = True
        self.work.hand_back()
        self.rhythm.hurry(max(0.5, leaving.end - leaving.until))

    def leave(self, leaving: "Leaving") -> bool:
        """Take one step towards the end: the running task may go on for a while, and what has ended is delivered.

        Return False when that is done, or when the time is over: outcomes that the server does not have are files then.
        """
        rhythm, child = self.rhythm, self.work.child
        now = time.monotonic()
        if child.running and now >= leaving.interrupt:
            text = INTERRUPTION + leaving.reason
            child.terminate(INTERRUPTED, text, max(0.0, leaving.until - now) / 3)
        if rhythm.pause <= 0:
            if not self.exchange(0):
                return False
            self.has_said_so = self.has_said_so or not rhythm.failures
        if self.work.child.running:
            self.work.listen(leaving.until if self.work.child.verdict is not None else leaving.interrupt)
        elif self.is_done():
            return False
        elif self.server.outbox and not rhythm.failures:
            rhythm.call_within(0)
        elif now < leaving.until:
            self.signals.sleep(min(rhythm.next_call, leaving.until) - now)
        if time.monotonic() < leaving.until:
            return True
        self.server.spool(leaving)
        return False

    def is_done(self) -> bool:
        """Tell whether a worker that leaves has delivered all it had, and has said that it leaves, or cannot."""
        return not self.server.outbox and bool(self.has_said_so or self.rhythm.failures)
