"""A request that stays open: tasks go in as they come, outcomes come out as they end.

add ----> the store, and a wake-up for the server ----> the workers that wait there
ended <-- the store, when the server has said so <------ their outcomes
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..bundle.outgoing import AGAIN, Outgoing
from ..config import Config
from ..errors import RequestNotFound
from ..storage import Storage
from ..values.facts import What
from ..values.files import Files, Needed
from ..values.model import Kind, Outcome, Progress
from ..values.wakeup import SETTING
from .dispatch import dispatch
from .waiting import Keeper, wait_for_log
from .wake import WakeUp

NEWS = 1.0  # seconds from one look at what the user should know to the next
NONE = Needed().files
LOOK = 0.05  # seconds at most from one look into the store to the next, while something is under way


class Stream:
    """An open request, for one thread: only wake may be called by others. again: see Outgoing."""

    def __init__(
        self,
        f: Callable[..., Any],
        settings: Config,
        ns: Mapping[str, Any] | None = None,
        say: Callable[[str], object] = bool,
        again: float = AGAIN,
    ) -> None:
        self.f = f
        self.say = say
        self.settings = settings
        self.ns = ns
        self.dbfile = os.path.abspath(os.path.expanduser(settings.dbfile))
        self.wakeup = WakeUp()
        self.request = 0
        self.outgoing = Outgoing(settings.ship, again=again)

    def __enter__(self) -> Stream:
        """Make the request, and submit its workers."""
        try:
            self.request = dispatch(self.f, (), self.settings, self.ns, True, self.outgoing, self.say)
        except BaseException:
            self.wakeup.close()
            raise
        self.storage = Storage(self.dbfile, make=False)
        self.keeper = Keeper(self.storage.dbfile)
        self.port: int | None = self.storage.get_setting(SETTING)
        self.version = -1
        self.next_news = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more tasks. When that was all, the file is whole, as after map, and no larger than it must be."""
        try:
            self.finish()
            self.storage.give_back()
            wait_for_log(self.storage)
        finally:
            self.storage.close()
            self.wakeup.close()

    def add(self, items: Sequence[bytes], files: Files = NONE) -> int:
        """Add tasks, each as serialised arguments, and files that they need. Return the index of the first."""
        files = self.storage.made(files)
        with self.storage.transaction():
            self.storage.add_files(self.request, files)
            first = self.storage.add_tasks(self.request, items)
        self.wakeup.look(self.port)
        return first

    def finish(self) -> None:
        """Take no more tasks; the request ends with the last that it has."""
        with suppress(RequestNotFound):
            self.storage.close_request(self.request)
        self.wakeup.look(self.port)

    def withdraw(self, tasks: Iterable[int]) -> None:
        """Take tasks back. One that runs is stopped; one that has ended stays as it is."""
        self.storage.end_pending(self.request, Kind.CANCELLED, "cancelled by its user", tasks)
        self.version = -1  # one's own commits are not seen as changes
        self.wakeup.look(self.port)

    def discard(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let go of what is stored of tasks of these ranges (first, last): who waited has their results."""
        self.storage.discard(self.request, ranges)

    def named(self) -> set[bytes]:
        """Return the hashes of the functions and manifests that the stored tasks name."""
        return self.storage.named_by_tasks(self.request)

    def forget(self, files: Iterable[str]) -> None:
        """Let go of files of these hashes, which no task names."""
        self.storage.forget_files(self.request, files)

    def ended(self, ranges: Iterable[tuple[int, int]]) -> Iterator[Outcome]:
        """Yield how tasks of these ranges (first, last) ended, of those that have."""
        return self.storage.outcomes(self.request, ranges)

    def unended(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """Return the tasks of these ranges (first, last) that have not ended."""
        found = list(ranges)
        ended = set(self.storage.ended_among(self.request, found))
        return [task for first, last in found for task in range(first, last + 1) if task not in ended]

    def words(self) -> list[str]:
        """Return what workers have said for the user."""
        return self.storage.said(self.request, What.STOOD_IN)

    def workers(self) -> int:
        """Return how many workers have been submitted so far."""
        return sum(array.workers for array in self.storage.arrays(self.request))

    def progress(self) -> Progress:
        """Return how far the request is."""
        return self.storage.progress(self.request)

    def begun(self) -> int:
        """Return the highest index of a task that a worker has taken so far."""
        return self.storage.leased(self.request)

    def changed(self) -> bool:
        """Tell whether anything has been committed since this was last asked, by others."""
        version = self.storage.version()
        if version == self.version:
            return False
        self.version = version
        port = self.storage.get_setting(SETTING)
        if port != self.port:  # there is another server
            self.port = port
            self.wakeup.forget()
        return True

    def wait(self, seconds: float | None = LOOK) -> str:
        """Return when something may have changed. Return what the user should know, now and then, or nothing."""
        self.wakeup.wait(self.port, seconds)
        trouble, now = self.keeper.look(), time.monotonic()
        if trouble or now < self.next_news:
            return trouble
        self.next_news = now + NEWS
        return self.storage.progress(self.request).note

    def wake(self) -> None:
        """Let wait return now. Any thread may call this."""
        self.wakeup.wake()
