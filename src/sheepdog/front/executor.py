"""The second front door: a concurrent.futures.Executor whose workers stay, and wait for tasks.

submit --> backlog --> CallFeeder: Stream.add ----> the store
Future <-------------- CallFeeder: Stream.ended <-- the store
"""

from __future__ import annotations

import concurrent.futures
import operator
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from ..client.wire.calls import names_in
from ..config import Config, make_config
from ..errors import RequestNotFound, StorageBusy
from ..values.files import Files, made, undisturbed
from ..values.model import Kind, Outcome
from ..values.ranges import runs_of
from ..values.serialisation import Sent, serialise_call
from .dispatch import require_main_guard, share_imports
from .feeder import Feeder
from .results import opened
from .stream import Stream
from .terminal import say_once

AT_ONCE = 1000  # tasks in one commit
LET_GO = 1.0  # seconds in which what futures have been given is let go of, if it is not AT_ONCE tasks before
FUNCTIONS = 100  # that are stored before those go that no call needs any more, but for the last half of them
FUNCTION_BYTES = 1 << 26  # of theirs; the last one stays whatever its size
SELDOM = 20  # times as long as that takes, until it is done again

T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Runs calls on workers that stay until it is shut down: one array job for all of them.

    config is what map takes. workers is how many there are: by default one for each core of this machine, or 16 on a
    cluster. The first call starts them; without calls for `idle_time` seconds they end, and the next call starts
    others. Calls whose program ends without `shutdown` still run; their results can be fetched from the database.
    """

    def __init__(self, config: Mapping[str, Any] | str | Config | None = None, workers: int | None = None) -> None:
        settings = make_config(config)
        self._settings = settings if workers is None else replace(settings, workers=workers)
        self._lock = threading.Lock()
        self._feeder: CallFeeder | None = None
        self._over = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Run ``fn(*args, **kwargs)`` on a worker; return its future.

        Its exception, if the call fails, is what the call raised, or else a TaskFailed. Raises TypeError for what is
        no function or cannot be serialised, RuntimeError after shutdown, and BrokenExecutor when no workers can be had.
        """
        require_main_guard()
        share_imports()
        with self._lock:
            if self._over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if not threading.main_thread().is_alive():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if not callable(fn):
                raise TypeError(f"fn is {fn!r}, a {type(fn).__name__}; it must be something that can be called")
            if self._feeder is not None:
                return self._feeder.submit(fn, args, kwargs)
            self._feeder = CallFeeder(self._settings)
            try:
                return self._feeder.submit(fn, args, kwargs)  # first: so the workers begin with its modules
            finally:
                self._feeder.start()
                weakref.finalize(self, self._feeder.close).atexit = False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. If wait, return when all have ended; with cancel_futures only those that run go on."""
        with self._lock:
            self._over = True
        if self._feeder is not None:
            self._feeder.close(cancel_futures)
            if wait:
                self._feeder.join()

    @property
    def request_id(self) -> int | None:
        """The request in the database whose tasks the calls are; None before the first."""
        return self._feeder.stream.request or None if self._feeder else None


class Future(concurrent.futures.Future[T]):
    """A call, and its result when it has ended."""

    def __init__(self, feeder: CallFeeder) -> None:
        super().__init__()
        self._feeder = feeder

    def cancel(self) -> bool:
        """Take the call back. If a worker has it, it is stopped there, which takes some seconds; then return False."""
        cancelled = super().cancel()
        if cancelled or self.running():
            self._feeder.take_back(self)
        return cancelled


class CallFeeder(Feeder):
    """The thread between an executor and its stream."""

    def __init__(self, settings: Config) -> None:
        say = say_once(True)
        super().__init__("sheepdog-executor", Stream(operator.call, settings, say=say), say)
        self.settings = settings
        self.lock = threading.Lock()
        self.backlog: deque[tuple[bytes, Files, Future[Any]]] = deque()  # calls, and files that are new with them
        self.files: dict[str, int] = {}  # the names and sizes of those that are stored, last used last
        self.bundles: set[str] = set()  # the names of those that no call names
        self.sent = Sent()
        self.taken_back: deque[Future[Any]] = deque()
        self.over = False
        self.stored = False  # is the request there, and what its first calls need?
        self.broken: BaseException | None = None
        self.futures: dict[int, Future[Any]] = {}  # by the index of their task
        self.tasks: dict[Future[Any], int] = {}
        self.delivered: list[int] = []  # tasks of which the store has what nobody needs any more
        self.next_letting_go = 0.0
        self.next_forgetting = 0.0
        self.begun = 0  # the futures up to this index have been told that they run

    # --- called by the user's threads

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
        """Take a call."""
        data, function = serialise_call(fn, args, kwargs, self.sent, self.stream.outgoing.dump)
        return undisturbed(lambda: self._enqueue(data, function))

    def _enqueue(self, data: bytes, function: bytes) -> Future[Any]:
        """Take a call, and the function that it names, if it does. Raises FilesChanged, and has not taken it then."""
        outgoing = self.stream.outgoing
        needed = outgoing.look() if self.stored else outgoing.freeze()
        data = needed.before + data
        files = dict(needed.files)
        if function:
            files[names_in(data)[-1].hex()] = function.__bytes__
        future: Future[Any] = Future(self)
        with self.lock:
            if self.over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self.broken is not None:
                raise BrokenExecutor(*self.broken.args) from self.broken
            if files:
                for name in {name.hex() for name in names_in(data)} & self.files.keys():
                    self.files[name] = self.files.pop(name)  # the last used
                new = files.keys() - self.files.keys() - self.bundles
                files = {name: made(files[name]) for name in new}  # now: what they are of may change
                named = {name.hex() for name in names_in(data)}
                self.files |= {name: len(file()) for name, file in files.items() if name in named}
                self.bundles |= files.keys() - named
            self.backlog.append((data, files, future))
        self.stream.wake()
        return future

    def take_back(self, future: Future[Any]) -> None:
        """Have a call's task taken back."""
        self.taken_back.append(future)
        self.stream.wake()

    def close(self, cancel_futures: bool = False) -> None:
        """Take no more calls."""
        if cancel_futures:  # else without the lock: a collection of garbage may come here in a thread that holds it
            with self.lock:
                waiting = [future for _, _, future in self.backlog] + list(self.futures.values())
            for future in waiting:
                if not future.running():
                    future.cancel()
        self.leave()

    # --- the thread

    def begin(self, stack: ExitStack) -> None:
        """Enter the stream: submit its workers."""
        stack.enter_context(self.stream)
        self.stored = True
        self.stream.outgoing.thaw()

    def step(self) -> bool:
        """Do what is to be done, then wait for more. Return False when that was all."""
        stream = self.stream
        try:
            self.send()
            while self.taken_back:
                self.withdraw()
        except StorageBusy as error:
            self.pause_for(error)
        if stream.changed():
            self.tell_begun()
            for outcome in list(stream.ended(self.out)):
                self.settle(outcome)
        if len(self.delivered) >= AT_ONCE or (self.delivered and time.monotonic() >= self.next_letting_go):
            self.let_go()
        with self.lock:
            self.over = self.left and not self.backlog and not self.futures
        if self.over:
            return False
        if not self.backlog and not self.taken_back:
            self.pause()
        return True

    def send(self) -> None:
        """Make tasks of the calls that have come."""
        with self.lock:
            calls = [*islice(self.backlog, AT_ONCE)]
        wanted = [call for call in calls if not call[2].cancelled()]
        files = {name: make for _, files, _ in calls for name, make in files.items()}  # a later one may need them, too
        first = self.add([data for data, _, _ in wanted], files) if wanted or files else 0
        with self.lock:  # at each moment a call is in one of the two places
            for index, (_, _, future) in enumerate(wanted, first):
                self.futures[index], self.tasks[future] = future, index
            for _ in calls:
                self.backlog.popleft()
        for _, _, future in calls:
            if future not in self.tasks:
                future.set_running_or_notify_cancel()

    def withdraw(self) -> None:
        """Take tasks back whose futures were cancelled, or asked to stop."""
        some = [*islice(self.taken_back, AT_ONCE)]
        tasks = {self.tasks[future] for future in some if future in self.tasks}  # a call may be taken back twice
        for index in tasks:
            if self.futures[index].cancelled():
                self.tell_one(index)
        self.stream.withdraw(tasks)
        for _ in some:
            self.taken_back.popleft()

    def tell_begun(self) -> None:
        """Tell futures that they run."""
        begun = self.stream.begun()
        for index in range(self.begun + 1, begun + 1):
            if index in self.futures:
                self.tell_one(index)
        self.begun = max(self.begun, begun)

    def tell_one(self, index: int) -> bool:
        """Tell a future that it runs, or else that everybody knows that it was cancelled. Return whether it runs."""
        future = self.futures[index]
        if future.running() or future.set_running_or_notify_cancel():
            return True
        self.drop(index)
        return False

    def drop(self, index: int) -> None:
        """Have no more to do with a future."""
        with self.lock:
            del self.tasks[self.futures.pop(index)]

    def settle(self, outcome: Outcome) -> None:
        """Tell a future how its task ended."""
        index = outcome.task
        self.out.remove(index)
        if index in self.futures and self.tell_one(index):
            future = self.futures[index]
            self.drop(index)
            if outcome.kind == Kind.CANCELLED:
                future.set_exception(CancelledError(outcome.text))
            else:
                value, error = opened(self.stream.request, outcome, self.settings.trusted)
                if error is not None:
                    future.set_exception(error)
                    return
                future.set_result(value)
        if outcome.kind == Kind.RESULT or (outcome.kind == Kind.CANCELLED and not outcome.attempts):
            self.delivered.append(index)  # errors stay, and what was begun: either can be run again

    def depart(self) -> None:
        """Let go of the last ones, and of all files that nothing needs which stays."""
        self.let_go()
        with suppress(StorageBusy, RequestNotFound):
            self.forget_files(0, 0)

    def let_go(self) -> None:
        """Let go of the tasks that have been delivered, unless they are to be kept; if that cannot be now, later."""
        self.next_letting_go = time.monotonic() + LET_GO
        if self.settings.keep is not None:
            self.delivered.clear()
        with suppress(StorageBusy, RequestNotFound):
            self.stream.discard(runs_of(sorted(self.delivered)))
            self.delivered.clear()
            if self.has_many_files() and (began := time.monotonic()) >= self.next_forgetting:
                self.forget_files(FUNCTIONS // 2, FUNCTION_BYTES // 2)
                self.next_forgetting = time.monotonic() + SELDOM * (time.monotonic() - began)

    def has_many_files(self) -> bool:
        """Tell whether many files of calls are stored, or large ones: each call may bring one of its own."""
        with self.lock:
            count, size = len(self.files), sum(self.files.values())
        return count > FUNCTIONS or (count > 1 and size > FUNCTION_BYTES)

    def forget_files(self, count: int, size: int) -> None:
        """Let go of files that no call names any more, but for the last ones: so many, and so many bytes."""
        stored = {name.hex() for name in self.stream.named()}
        with self.lock:
            needed = stored | {name.hex() for data, _, _ in self.backlog for name in names_in(data)}
            unneeded = []
            for number, name in enumerate(reversed(self.files)):
                size -= self.files[name]
                if name not in needed and (number >= count or (number and size < 0)):
                    unneeded.append(name)
            for name in unneeded:  # from now on, a call that needs one of them brings it again
                del self.files[name]
        self.stream.forget(unneeded)

    def end(self, problem: BaseException | None) -> None:
        """Fail the futures that have not ended, and all later calls, if there is a problem."""
        if problem is None:
            return
        broken = BrokenExecutor(f"calls cannot be run any more: {problem}")
        broken.__cause__ = problem
        with self.lock:
            self.broken = broken
            left = [future for _, _, future in self.backlog] + list(self.futures.values())
            self.backlog.clear()
        for future in left:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(broken)
