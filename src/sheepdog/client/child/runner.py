"""The runner: what the child does with its life."""

import _signal  # type: ignore[import-not-found]  # signal makes enumerations, which takes longer than the question
import os
import signal
import struct
import sys
import time
import types

from ..function import PICKLE
from ..memory import limit_memory, peak_resident
from ..processes import adopt_orphans, die_with_parent
from ..wire.limits import CHUNK, MEASURED
from ..wire.outcomes import RAISED
from .controller import Controller
from .descriptors import move_up
from .pipe import LOADED, NO_STATUS, OUTCOME, TASK, Pipe
from .surroundings import Surroundings
from .target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def settle_in(parent: int, secret: "dict[str, Any]") -> None:
    """Make a fork of the worker a process for functions."""
    os.setsid()
    die_with_parent(parent)
    adopt_orphans()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if secret.get("memory_limit"):
        limit_memory(secret["memory_limit"])
    sys.modules["__main__"] = types.ModuleType("__main__")  # the user's names must not meet this file's
    sys.argv = [""]
    os.umask(secret.get("umask", 0o022))
    sys.path[0:1] = [os.path.join(secret["directory"], name) for name in secret.get("path", ["cloudpickle.zip"])]
    os.environ["SHEEPDOG_REQUEST_ID"] = str(secret["request"])


def leave_traces() -> None:
    """Let a crash, or the SIGTERM of a timeout, print where the function was, even if C code holds Python's lock."""
    import faulthandler

    faulthandler.enable(2)
    faulthandler.register(signal.SIGTERM, 2, chain=True)

    def forget() -> None:
        if _signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # the function has set none of its own
            faulthandler.unregister(signal.SIGTERM)

    if hasattr(os, "register_at_fork"):  # 3.7: multiprocessing ends its processes with SIGTERM, every time
        os.register_at_fork(after_in_child=forget)  # novm


def run_child(pipe: Pipe, inputs: "tuple[int, int]", secret: "dict[str, Any]", blobs: "list[bytes]") -> None:
    """Run tasks until the pipe of tasks is closed, or the process is not fit for another."""
    tasks, tokens = map(move_up, inputs)
    pipe.capture.redirect()
    leave_traces()
    surroundings = Surroundings(secret.get("umask", 0o022))

    def loaded() -> None:
        surroundings.note()
        pipe.send(OUTCOME.pack(0, 0, LOADED, 0.0, NO_STATUS, 0, 0, 0))

    def make_controller() -> Controller:
        return Controller(pipe, secret, index, attempt, saved or None)

    target = Target(blobs[0], blobs[1], loaded, make_controller, secret.get("form") or PICKLE)
    last_attempt = None
    stream = open(tasks, "rb", CHUNK)
    number, credit = 0, False
    me = os.getpid()
    most = secret.get("tasks_per_child") or 0
    count, peak = 0, 0
    while True:
        start = stream.read(4)
        if len(start) < 4:
            os._exit(0)
        batch = []  # read as a whole: the parent must not wait for a task to end
        for _ in range(struct.unpack("!I", start)[0]):
            index, attempt, length, more = TASK.unpack(stream.read(TASK.size))
            batch.append((index, attempt, stream.read(length), stream.read(more) if more else b""))
        batch.reverse()
        number = (number + 1) % 256
        while batch:
            index, attempt, arguments, saved = batch.pop()
            if not credit:
                try:
                    token = os.read(tokens, 1)[0]
                except BlockingIOError:  # this task was recalled, and with it those behind it
                    break
                if token != number:  # so it was, and this is a token of the next batch already
                    credit = True
                    break
            credit = False
            surroundings.set(b"SHEEPDOG_TASK_INDEX", index)
            if attempt != last_attempt:
                surroundings.set(b"SHEEPDOG_ATTEMPT", attempt)
                last_attempt = attempt
            kind, value, status = target(arguments)
            if os.getpid() != me:  # the function forked, and this is its child
                os._exit(0)
            seconds = time.perf_counter() - target.clock
            if len(value) > secret["max_value"]:
                text = "the result has %d bytes; at most %d can be stored: write it to a file and return its name"
                kind, value = RAISED, (text % (len(value), secret["max_value"])).encode()
            if seconds > MEASURED or not peak:  # asking takes longer than many a task
                peak = peak_resident()
            change = surroundings.change()
            whole = pipe.is_whole()
            if not whole:
                pipe.open_again()
            output = pipe.capture.take()
            pipe.send(OUTCOME.pack(index, attempt, kind, seconds, status, peak, len(value), len(output)), value, output)
            count += 1
            if change or not whole or count == most:
                pipe.part(change if whole else "it closed the worker's files")
            del value, arguments, saved
