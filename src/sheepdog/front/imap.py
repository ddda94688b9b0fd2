"""Results as they come, for any number of tasks: arguments are drawn only as they are needed, so memory is bounded.

    args --- a thread: serialise ---> MapFeeder: Stream.add ----> the store
    user <--- Results <-------------- MapFeeder: Stream.ended <-- the store

Between args and the user there are at most as many tasks as the window is wide. It grows when the user waits and the
workers have little left to begin.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from ..client import IN_MEMORY
from ..errors import NotRun, RequestNotFound, StorageBusy
from ..values.files import Files, made, undisturbed
from ..values.model import Kind, Outcome
from ..values.ranges import runs_of
from ..values.serialisation import serialise_arguments
from .feeder import Feeder, Say
from .results import harmless, opened
from .stream import Stream

EACH = 4  # tasks for each worker in the first window
AMPLE = 64  # tasks for each worker, so many that short ones go out in batches: see server/decide/order.py
WIDEST = 100_000  # tasks in a window
PORTION = 1000  # outcomes at most that are handed over at once; fewer if they are more than IN_MEMORY bytes
ENDED = (Kind.NOT_RUN, Kind.CANCELLED)  # the end of a task that was the end of its request

T = TypeVar("T")


class Results(Iterator[Any]):
    """The results of imap, as they come.

    Whoever has seen enough leaves: by close, by the end of `with`, or by dropping the iterator, as a loop does.
    """

    def __init__(self, stream: Stream, args: Iterator[Any], ordered: bool, return_exceptions: bool, say: Say) -> None:
        self._trusted = stream.settings.trusted
        self._return_exceptions = return_exceptions
        self._ready: deque[Outcome] = deque()
        self._feeder = MapFeeder(stream, args, ordered, say)
        weakref.finalize(self, self._feeder.leave).atexit = False
        self._feeder.start()

    @property
    def request_id(self) -> int:
        """The request in the database whose tasks these are."""
        return self._feeder.stream.request

    def __next__(self) -> Any:
        """Return the next result, or raise what its task failed with; the one behind it is next then."""
        if not self._ready:
            self._ready = self._feeder.take()
        outcome = self._ready.popleft()
        value, problem = opened(self.request_id, outcome, self._trusted)
        if problem is None:
            return value
        error = harmless(problem)
        del problem
        if outcome.kind in ENDED:
            self.close()
        elif self._return_exceptions:
            return error
        try:
            raise error
        finally:
            del error, self  # whoever keeps the exception, and so this frame, does not keep the iterator

    def close(self) -> None:
        """Draw no more arguments, and cancel the tasks that have not ended."""
        self._ready.clear()
        self._feeder.leave()
        self._feeder.join()
        self._feeder.problem = None  # it may have ended by itself meanwhile

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MapFeeder(Feeder):
    """The thread between a stream and the user's iterator. The stream has been entered; this leaves it."""

    def __init__(self, stream: Stream, args: Iterator[Any], ordered: bool, say: Say) -> None:
        super().__init__("sheepdog-imap", stream, say)
        self.args = args
        self.ordered = ordered
        self.change = threading.Condition()  # guards what follows
        self.window = EACH * max(1, stream.workers())
        self.ample = AMPLE * max(1, stream.workers())
        self.items: list[bytes] = []  # drawn, and not yet in the store
        self.size = 0  # bytes of these
        self.files: dict[str, Callable[[], bytes]] = {}  # that these need, besides what the function does
        self.drawn = self.taken = 0  # tasks
        self.exhausted = False  # args give no more
        self.problem: BaseException | None = None  # what ends the iteration
        self.portion: deque[Outcome] = deque()  # for the user
        self.awaited = False  # the user waits for them
        self.over = False  # this was all

        # The thread's own:
        self.unread = False  # there may be outcomes of the tasks that are out
        self.finished = False  # all tasks are in the store

    # --- the user

    def take(self) -> deque[Outcome]:
        """Wait for outcomes, and take them. At the end raise what ended it, and ever after StopIteration."""
        with self.change:
            self.awaited = True
            self.change.wait_for(lambda: self.portion or self.over)
            self.awaited = False
            portion, self.portion = self.portion, deque()
            self.taken += len(portion)
            self.change.notify_all()
        self.stream.wake()
        if portion:
            return portion
        problem, self.problem = self.problem, None
        try:
            raise problem or StopIteration
        finally:
            del problem

    # --- the thread that draws

    def draw(self) -> None:
        """Serialise arguments, as long as there is room for them."""
        try:
            outgoing, first = self.stream.outgoing, self.stream.outgoing.needed
            named = {*first.files}

            def look() -> tuple[bytes, Files]:
                needed = outgoing.look()
                return needed.before, {name: made(needed.files[name]) for name in needed.files.keys() - named}

            for data in serialise_arguments(self.args, outgoing.dump):
                before, new = undisturbed(look)
                named.update(new)
                with self.change:
                    self.items.append(data if before == first.before else before + data)
                    self.files.update(new)
                    self.size += len(data)
                    self.drawn += 1
                    if len(self.items) == 1:
                        self.stream.wake()
                    self.change.wait_for(self.has_room)
                if self.left:
                    break
        except BaseException as error:
            self.problem = None if self.left else error
        self.exhausted = True
        self.stream.wake()

    def has_room(self) -> bool:
        """Tell whether another task may be drawn; also if nobody wants it any more."""
        return self.left or (self.drawn - self.taken < self.window and self.size <= IN_MEMORY)

    # --- this thread

    def begin(self, stack: ExitStack) -> None:
        """Leave the stream at the end; begin to draw."""
        stack.push(self.stream)
        threading.Thread(target=self.draw, name="sheepdog-imap-args", daemon=True).start()

    def depart(self) -> None:
        """Cancel what the user does not want any more."""
        if self.left:
            self.stream.withdraw(self.stream.unended(self.out))

    def end(self, problem: BaseException | None) -> None:
        """Let nobody wait for more."""
        with self.change:
            if problem is not None:
                self.problem = problem
            if self.left:
                self.portion, self.problem = deque(), None
            self.left = self.over = True
            self.change.notify_all()

    def step(self) -> bool:
        """Do what is to be done, then wait for more. Return False when that was all."""
        stream = self.stream
        with self.change:
            exhausted = self.exhausted  # then these are the last
            items, self.items, self.size = self.items, [], 0
            files, self.files = self.files, {}
            self.change.notify_all()
        if items and not self.finished and stream.progress().cancelled:
            self.finished = True  # its workers were deleted: the user meets that soon, and no others are to come
        if items and not self.finished:
            try:
                self.stored(lambda: self.add(items, files))
            except RequestNotFound as error:  # somebody has ended it: these are not run, whatever came of the others
                self.problem = NotRun(str(error), stream.request, kind=Kind.NOT_RUN)
                self.finished = True
        if exhausted and not self.finished:
            self.stored(stream.finish)
            self.finished = True
        self.unread = stream.changed() or self.unread
        if self.unread and not self.portion:
            self.read()
        if self.left or (self.finished and not self.out):
            return False
        if not self.items and (self.portion or not self.unread):
            self.widen()
            self.pause()
        return True

    def stored(self, change: Callable[[], T]) -> T:
        """Change the store, however long the disk is full or the database locked."""
        while True:
            try:
                return change()
            except StorageBusy as error:
                if self.left or not threading.main_thread().is_alive():
                    raise
                self.pause_for(error)

    def read(self) -> None:
        """Hand over outcomes: the next ones, or if order does not matter any."""
        portion: deque[Outcome] = deque()
        size, self.unread = 0, False
        following = next(iter(self.out), (0, 0))[0]
        for outcome in self.stream.ended(self.out):
            if self.ordered and outcome.task != following + len(portion):
                break
            portion.append(outcome)
            size += len(outcome.value)
            if len(portion) >= PORTION or size >= IN_MEMORY:
                self.unread = True
                break
        for first, last in runs_of(outcome.task for outcome in portion):
            self.out.remove(first, last)
        with self.change:
            self.portion = portion
            self.change.notify_all()

    def widen(self) -> None:
        """Let more tasks be drawn, if the user waits because the workers have had most of those that may be out."""
        room = self.drawn - self.taken < self.window
        few = self.window < self.ample or self.stream.begun() > self.drawn - self.window // 2
        if self.awaited and not room and few:
            with self.change:
                self.window = min(2 * self.window, WIDEST)
                self.change.notify_all()
