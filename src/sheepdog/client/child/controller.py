"""The controller: what a task that asks for it gets, to report while it runs and to go on where another attempt was."""

import _signal  # type: ignore[import-not-found]  # signal makes enumerations, which takes longer than the message
import _thread
import os
import time

from ..wire.messages import CHECKPOINT, REPORT
from ..wire.records import NO_STATUS, RECORD
from ..wire.values import dump, load
from .pipe import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGNALS = [number for number in range(1, _signal.NSIG) if number not in (32, 33)]  # these two are the C library's own


class Controller(object):
    """The handle of one attempt of a task.

    request, id and attempt are numbers: of the request, of the task within it, of this attempt; the latter two count
    from 1. host is the name of the compute node. deadline is when the task will be ended for its timeout or the
    worker's walltime, whichever is first, as was known when it began: seconds as time.time() counts them, or None.

    Only the process in which the function was called can report and leave checkpoints, and only until the function
    returns; after that, or when the function has closed the worker's files, that is a RuntimeError.
    """

    def __init__(
        self, pipe: Pipe, secret: "dict[str, Any]", index: int, attempt: int, saved: "bytes | None" = None
    ) -> None:
        self.request = secret["request"]  # type: int
        self.id = index
        self.attempt = attempt
        self.host = secret.get("host", "")  # type: str
        ends = [secret["end"]] if secret.get("end") else []
        ends += [time.time() + secret["timeout"]] if secret.get("timeout") else []
        self.deadline = min(ends) if ends else None  # type: float | None
        self._max_value = secret["max_value"]  # type: int
        self._pipe = pipe
        self._saved = saved
        self._process = os.getpid()
        self._lock = _thread.allocate_lock()
        self._over = False

    def report(self, value: object) -> None:
        """Show a value, of any kind that a result may have, to whoever made the request, while the task goes on.

        It waits only if the server has not taken many megabytes of earlier ones. Raises TypeError for a value that
        cannot be serialised, and ValueError for one that is too large.
        """
        self._say(REPORT, "report", value)

    def checkpoint(self, value: object) -> None:
        """Store a value from which another attempt of this task can go on, in place of the one before.

        Waits and raises as report does.
        """
        data = self._say(CHECKPOINT, "checkpoint", value)
        self._saved = data

    def restored(self, default: object = None) -> "Any":
        """Return the latest checkpoint of this task, of this attempt or an earlier one; default if there is none.

        Each call returns a new copy.
        """
        return default if self._saved is None else load(self._saved)

    def close(self) -> None:
        """Say nothing any more: the function has returned."""
        if os.getpid() == self._process:  # in a fork of it, nobody might let the lock go
            with self._lock:
                self._over = True

    def _say(self, kind: int, what: str, value: object) -> bytes:
        # A signal's handler may raise. Half a message would make nonsense of all that follows it.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)  # runs handlers that are due, and so may raise itself
            data = self._serialised(what, value)
            if os.getpid() != self._process:
                raise RuntimeError("another process than the task's own has a %s: hand the value to the task's" % what)
            with self._lock:
                if self._over:
                    raise RuntimeError("the task has ended: its %s came too late" % what)
                if not self._pipe.is_whole():
                    raise RuntimeError("the function has closed the worker's files: there is no way for its %s" % what)
                self._send(kind, data)
            return data
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _serialised(self, what: str, value: object) -> bytes:
        try:
            data = dump(value)
        except Exception as error:
            text = "the %s, a %s, cannot be serialised: %s: %s"
            raise TypeError(text % (what, type(value).__name__, type(error).__name__, error)) from error
        if len(data) > self._max_value:
            text = "the %s has %d bytes; at most %d can be stored: write it to a file and give its name"
            raise ValueError(text % (what, len(data), self._max_value))
        return data

    def _send(self, kind: int, data: bytes) -> None:
        try:
            self._pipe.send(RECORD.pack(self.id, self.attempt, kind, 0.0, NO_STATUS, 0, len(data), 0), data)
        except BaseException:  # another thread had the signal
            os._exit(1)
