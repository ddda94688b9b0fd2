"""The runner: what the child does with its life."""

import _signal  # type: ignore[import-not-found]  # signal makes enumerations, which takes longer than the question
import json
import os
import signal
import struct
import sys
import time
import types

from ..function import PICKLE
from ..memory import forget_peak, limit_memory, peak_memory, peak_resident
from ..processes import adopt_orphans, die_with_parent
from ..wire.limits import CHUNK, MEASURED
from ..wire.outcomes import MEMORY, RAISED, RESULT
from ..wire.records import NO_STATUS, RECORD
from .controller import Controller
from .descriptors import move_up
from .joblib_name import Finder
from .pipe import LACKING, LOADED, TASK, TRIED, Pipe
from .surroundings import Surroundings
from .target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    Given = tuple[int, int, bytes, bytes]  # index, attempt, arguments, checkpoint


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
    sys.path[1:1] = secret.get("brought", [])
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
    sys.meta_path.insert(0, Finder())
    runner = Runner(pipe, tokens, secret, blobs)
    with open(tasks, "rb", CHUNK) as stream:
        while True:
            start = stream.read(4)
            if len(start) < 4:
                os._exit(0)
            runner.run_batch(read_batch(stream, struct.unpack("!I", start)[0]))


def read_batch(stream: "BinaryIO", count: int) -> "list[Given]":
    """Read tasks, as a whole: the parent must not wait for one of them to end."""
    batch = []
    for _ in range(count):
        index, attempt, length, more = TASK.unpack(stream.read(TASK.size))
        batch.append((index, attempt, stream.read(length), stream.read(more) if more else b""))
    return batch


class Runner(object):
    """Runs batch after batch."""

    def __init__(self, pipe: Pipe, tokens: int, secret: "dict[str, Any]", blobs: "list[bytes]") -> None:
        self.pipe = pipe
        self.tokens = tokens
        self.secret = secret
        self.most = secret.get("tasks_per_child") or 0
        self.max_value = secret["max_value"]  # type: int
        self.surroundings = Surroundings(secret.get("umask", 0o022))
        form = secret.get("form") or PICKLE
        where, fits = secret.get("directory", ""), secret.get("trial") is None
        self.target = Target(blobs[0], blobs[1], self._loaded, self._make_controller, form, where, fits)
        self.process = os.getpid()
        self.task = (0, 0, b"")  # the present one: its index, attempt and checkpoint
        self.number = 0  # of the batch, and the value of its tokens
        self.credit = False  # has the token of the next batch's first task been taken?
        self.count = 0  # tasks so far
        self.peak = 0  # memory of this process when it was last asked for

    def run_batch(self, batch: "list[Given]") -> None:
        """Run the tasks that are not recalled meanwhile; before them come the functions that some of them call."""
        while batch and not batch[0][0]:
            _, _, function, name = batch.pop(0)
            if not name:
                self._try_out(function)
                continue
            self.target.named.pop(name, None)
            if function:
                self.target.named[name] = function
        batch.reverse()
        self.number = (self.number + 1) % 256
        while batch and self._may_begin():
            self._run(*batch.pop())

    def _may_begin(self) -> bool:
        """Take a token. Without one the next task has been recalled, and with it those behind it."""
        if self.credit:
            self.credit = False
            return True
        try:
            token = os.read(self.tokens, 1)[0]
        except BlockingIOError:
            return False
        self.credit = token != self.number  # all of this batch were recalled: it is one of the next already
        return not self.credit

    def _run(self, index: int, attempt: int, arguments: bytes, saved: bytes) -> None:
        self.surroundings.set(b"SHEEPDOG_TASK_INDEX", index)
        if attempt != self.task[1]:
            self.surroundings.set(b"SHEEPDOG_ATTEMPT", attempt)
        self.task = index, attempt, saved
        kind, value, status = self.target(arguments)
        if os.getpid() != self.process:  # the function forked, and this is its child
            os._exit(0)
        news = self.target.modules.take_news()
        now = time.perf_counter()
        seconds = now - self.target.clock
        if len(value) > self.max_value:
            text = "the result has %d bytes; at most %d can be stored: write it to a file and return its name"
            kind, value = RAISED, (text % (len(value), self.max_value)).encode()
        raised = 0  # what this process had at most, if that is more than before, or the task failed
        if seconds > MEASURED or not self.peak or kind != RESULT:  # asking takes longer than many a task
            peak = peak_memory() if kind == MEMORY else peak_resident()
            if peak > self.peak or kind != RESULT:
                raised = peak
            self.peak = max(peak, self.peak)
            forget_peak()
        change = self.surroundings.change(seconds, now)
        whole, output = True, b""
        if not self.pipe.is_quiet():
            whole = self.pipe.is_whole()
            if not whole:
                self.pipe.open_again()
            output = self.pipe.capture.take()
        for each in map(str.encode, news):
            self.pipe.send(RECORD.pack(0, 0, LACKING, 0.0, NO_STATUS, 0, len(each), 0), each)
        head = RECORD.pack(index, attempt, kind, seconds, status, raised, len(value), len(output))
        self.pipe.send(head, value, output)
        if saved:
            self.task = index, attempt, b""
        self.count += 1
        if change or not whole or self.count == self.most:
            self.pipe.part(change if whole else "it closed the worker's files")

    def _try_out(self, names: bytes) -> None:
        problem = self.target.try_out(json.loads(names.decode())).encode()
        self.pipe.send(RECORD.pack(0, 0, TRIED, 0.0, NO_STATUS, 0, len(problem), 0), problem)

    def _loaded(self) -> None:
        self.surroundings.note()
        self.pipe.send(RECORD.pack(0, 0, LOADED, 0.0, NO_STATUS, 0, 0, 0))

    def _make_controller(self) -> Controller:
        index, attempt, saved = self.task
        return Controller(self.pipe, self.secret, index, attempt, saved or None)
