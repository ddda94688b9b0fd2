"""The second front door: a concurrent.futures.Executor whose workers stay, and wait for tasks.

submit --> backlog --> Link's thread: Stream.add ----> the store
Future <-------------- Link's thread: Stream.ended <-- the store
"""

from __future__ import annotations

import concurrent.futures
import operator
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from ..config import Config, make_config
from ..errors import DamagedError, StorageError
from ..values.model import Kind, Outcome
from ..values.ranges import Ranges
from ..values.serialisation import local_modules_by_value, serialise_call
from .functional import say_once
from .results import opened
from .stream import LOOK, Stream

AT_ONCE = 1000  # tasks in one commit
IDLE_LOOK = 1.0  # seconds from one look whether the program ends to the next, while there is nothing to do

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
        self._link: Link | None = None
        self._over = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Run ``fn(*args, **kwargs)`` on a worker; return its future.

        Its exception, if the call fails, is what the call raised, or else a TaskFailed. Raises TypeError for what is
        no function or cannot be serialised, RuntimeError after shutdown, and BrokenExecutor when no workers can be had.
        """
        with self._lock:
            if self._over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if not threading.main_thread().is_alive():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if not callable(fn):
                raise TypeError(f"fn is {fn!r}, a {type(fn).__name__}; it must be something that can be called")
            if self._link is None:
                self._link = Link(self._settings)
                weakref.finalize(self, self._link.close).atexit = False
            return self._link.submit(fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. If wait, return when all have ended; with cancel_futures only those that run go on."""
        with self._lock:
            self._over = True
        if self._link is not None:
            self._link.close(cancel_futures)
            if wait:
                self._link.thread.join()

    @property
    def request_id(self) -> int | None:
        """The request in the database whose tasks the calls are; None before the first."""
        return self._link.stream.request or None if self._link else None


class Future(concurrent.futures.Future[T]):
    """A call, and its result when it has ended."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def cancel(self) -> bool:
        """Take the call back. If a worker has it, it is stopped there, which takes some seconds; then return False."""
        cancelled = super().cancel()
        if cancelled or self.running():
            self._link.take_back(self)
        return cancelled


class Link:
    """A thread between an executor and its stream."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.stream = Stream(operator.call, settings)
        self.lock = threading.Lock()
        self.backlog: deque[tuple[bytes, Future[Any]]] = deque()
        self.taken_back: deque[Future[Any]] = deque()
        self.closing = self.over = False
        self.broken: BaseException | None = None
        self.say = say_once(True)
        self.futures: dict[int, Future[Any]] = {}  # by the index of their task
        self.tasks: dict[Future[Any], int] = {}
        self.out = Ranges()  # the same indices
        self.begun = 0  # the futures up to this index have been told that they run
        self.resources = ExitStack()
        self.refresh = self.resources.enter_context(local_modules_by_value())
        self.thread = threading.Thread(target=self.run, name="sheepdog-executor")
        self.thread.start()

    # --- called by the user's threads

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
        """Take a call."""
        self.refresh()
        data = serialise_call((fn, *args), kwargs)
        future: Future[Any] = Future(self)
        with self.lock:
            if self.over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self.broken is not None:
                raise BrokenExecutor(*self.broken.args) from self.broken
            self.backlog.append((data, future))
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
                waiting = [future for _, future in self.backlog] + list(self.futures.values())
            for future in waiting:
                if not future.running():
                    future.cancel()
        self.closing = True
        self.stream.wake()

    # --- the thread

    def run(self) -> None:
        """Feed the stream, and set the futures, until all have ended and no more come."""
        try:
            with self.resources, self.stream:
                while self.step():
                    pass
        except BaseException as error:
            self.fail(error)

    def step(self) -> bool:
        """Do what is to be done, then wait for more. Return False when that was all."""
        stream = self.stream
        try:
            self.send()
            while self.taken_back:
                self.withdraw()
        except DamagedError:
            raise
        except StorageError as error:  # the disk is full, say
            self.say(str(error))
            stream.wait(IDLE_LOOK)
        if stream.changed():
            self.tell_begun()
            for outcome in list(stream.ended(self.out)):
                self.settle(outcome)
        with self.lock:
            self.over = self.closing and not self.backlog and not self.futures
        if self.over:
            return False
        if not self.backlog and not self.taken_back:
            self.say(stream.wait(LOOK if self.futures else IDLE_LOOK))
        self.closing = self.closing or not threading.main_thread().is_alive()
        return True

    def send(self) -> None:
        """Make tasks of the calls that have come."""
        with self.lock:
            calls = [*islice(self.backlog, AT_ONCE)]
        wanted = [call for call in calls if not call[1].cancelled()]
        first = self.stream.add([data for data, _ in wanted]) if wanted else 0
        with self.lock:  # at each moment a call is in one of the two places
            for index, (_, future) in enumerate(wanted, first):
                self.futures[index], self.tasks[future] = future, index
            for _ in calls:
                self.backlog.popleft()
        if wanted:
            self.out.add(first, first + len(wanted) - 1)
        for _, future in calls:
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
        if index not in self.futures or not self.tell_one(index):
            return
        future = self.futures[index]
        self.drop(index)
        if outcome.kind == Kind.CANCELLED:
            future.set_exception(CancelledError())
            return
        value, error = opened(self.stream.request, outcome, self.settings.trusted)
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def fail(self, error: BaseException) -> None:
        """Fail the futures that have not ended, and all later calls."""
        broken = BrokenExecutor(f"calls cannot be run any more: {error}")
        broken.__cause__ = error
        with self.lock:
            self.broken = broken
            left = [future for _, future in self.backlog] + list(self.futures.values())
            self.backlog.clear()
        for future in left:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(broken)
