"""The thread between a stream and its user: tasks go in, outcomes come out, until that was all.

user --- tasks -----> Feeder: Stream.add ----> the store
user <-- outcomes --- Feeder: Stream.ended <-- the store
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ..errors import StorageBusy
from ..values.files import Files
from ..values.ranges import Ranges
from .stream import LOOK, NONE, Stream

IDLE_LOOK = 1.0  # seconds from one look to the next, while no task is under way

Say = Callable[[str], None]


class Feeder(threading.Thread):
    """A subclass says what is to be done in a step, and what its user is told at the end."""

    def __init__(self, name: str, stream: Stream, say: Say) -> None:
        super().__init__(name=name)
        self.stream = stream
        self.say = say
        self.out = Ranges()  # tasks in the store whose outcomes have not been read; the thread's own
        self.left = False  # the user wants no more

    # --- any thread

    def leave(self) -> None:
        """Let the thread end. Any thread may call this at any moment, also one that holds a lock."""
        self.left = True
        self.stream.wake()

    # --- this thread

    def run(self) -> None:
        """Do what is to be done until that was all; the end of the program is as if the user had gone."""
        try:
            with ExitStack() as stack:
                self.begin(stack)
                while self.step():
                    self.left = self.left or not threading.main_thread().is_alive()
                self.depart()
                for text in self.stream.words():
                    self.say(text)
        except BaseException as error:
            self.end(error)
        else:
            self.end(None)

    def begin(self, stack: ExitStack) -> None:
        """Enter the stream, and what else must be left at the end."""
        stack.enter_context(self.stream)

    def step(self) -> bool:
        """Do what is to be done, then pause. Return False when that was all."""
        raise NotImplementedError

    def depart(self) -> None:
        """Do what is to be done last, before the stream is left."""

    def end(self, problem: BaseException | None) -> None:
        """Tell the user that this was all, or what the problem is."""
        raise NotImplementedError

    def add(self, items: Sequence[bytes], files: Files = NONE) -> int:
        """Add tasks, each as serialised arguments, and files that they need. Return the index of the first."""
        first = self.stream.add(items, files)
        if items:
            self.out.add(first, first + len(items) - 1)
        return first

    def pause(self) -> None:
        """Wait until something may have changed; tell the user what they should know meanwhile."""
        self.say(self.stream.wait(LOOK if self.out else IDLE_LOOK))

    def pause_for(self, error: StorageBusy) -> None:
        """Wait until the store may work again: the disk is full, say."""
        self.say(str(error))
        self.stream.wait(IDLE_LOOK)
