"""What is known of a request's workers: what each has said, and from which elements of array jobs any has called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...values.model import ArrayJob


class Element(NamedTuple):
    """An element of an array job. One worker at a time runs in it."""

    array: int
    name: str


class Running(NamedTuple):
    """What a worker runs: a task's index, its attempt, and since when in Unix time. Index 0 is nothing."""

    task: int
    attempt: int
    since: float | None


NOTHING = Running(0, 0, None)


@dataclass(slots=True)
class WorkerSeen:
    """What a worker said of itself, when it was last heard, and the number of its latest call."""

    host: str
    element: Element
    heard: float
    level: int = 0
    call: int = 0
    missed: float | None = None
    """Since when the scheduler does not list it."""
    untried: bool = False  # its Python is another, and it tries yet whether it can load the function
    leaving: str | None = None
    """Why it is about to end, if it has said so."""
    joined: float = 0.0
    """When it called first, in Unix time."""
    python: str = ""
    """The version of its Python, if it is known."""
    running: Running = NOTHING


class Workers:
    """The workers of one request, by name."""

    def __init__(self, joined: bool, now: float) -> None:
        self.joined = joined  # whether any has ever been one that can run the function
        self.alone_since = now
        self.known: dict[str, WorkerSeen] = {}
        self.called: set[Element] = set()  # the elements from which a worker has called
        self.lost: set[Element] = set()  # those whose worker was lost, whatever the scheduler says
        self.warned: dict[Element, float] = {}  # those whose worker was warned by a signal, as before a deletion: when
        self.dismissed: set[Element] = set()  # those whose worker was told to end
        self.refused: dict[str, str] = {}  # element -> why
        self._quiet: dict[Element, float] = {}  # since when nobody is heard from an element that is said to run
        self._replaced: set[str] = set()  # workers that another one followed in their element

    @property
    def elements(self) -> set[Element]:
        """The elements that workers are in."""
        return {seen.element for seen in self.known.values()}

    @property
    def leaving(self) -> list[str]:
        """The workers that have said that they are about to end."""
        return [name for name, seen in self.known.items() if seen.leaving is not None]

    def staying(self, level: int) -> int:
        """Return in how many elements there are workers of at least this level that are not about to end."""
        known = self.known.values()
        return len({seen.element for seen in known if seen.leaving is None and seen.level >= level})

    # --- what they say

    def replace(self, name: str, element: Element) -> list[str]:
        """Return the workers that a new one follows in its element: they have ended."""
        if not element.name or name in self._replaced:
            return []
        before = [other for other, seen in self.known.items() if seen.element == element]
        self._replaced.update(before)
        return before

    def add(self, name: str, seen: WorkerSeen) -> None:
        """Take note of a worker that calls for the first time."""
        self.known[name] = seen
        self.called.add(seen.element)
        for ended in (self.lost, self.dismissed):
            ended.discard(seen.element)
        self.warned.pop(seen.element, None)

    def take(self) -> None:
        """Note that a worker can run the function."""
        self.joined = True

    def refuse(self, name: str, why: str) -> None:
        """Forget a worker that cannot run the function, but not why."""
        seen = self.known.pop(name)
        self.refused[seen.element.name or name] = why

    def remove(self, name: str) -> None:
        """Forget a worker that was told to end."""
        seen = self.known.pop(name, None)
        if seen is not None:
            self.dismissed.add(seen.element)

    def lose(self, name: str) -> WorkerSeen | None:
        """Forget a worker that is lost. Return what was known of it."""
        seen = self.known.pop(name, None)
        if seen is not None and seen.element not in self.elements:
            self.lost.add(seen.element)
        return seen

    # --- what the scheduler says of them

    def listen(self, running: Collection[Element], asked: float, patience: float) -> None:
        """Take an element for lost that is said to run, and from which nobody has been heard for so long."""
        heard = self.elements
        for element in running:
            if element in heard:
                self._quiet.pop(element, None)
            elif asked - self._quiet.setdefault(element, asked) > patience:
                self.lost.add(element)

    def ended(self, number: int, running: Collection[str], asked: float) -> list[str]:
        """Return the workers of an array job that have ended: twice they were not listed, and said nothing between.

        asked is when the question was put: of workers that came later the answer knows nothing.
        """
        ended = []
        for name, seen in self.known.items():
            if seen.element.array != number:
                continue
            if seen.element.name in running:
                seen.missed = None
            elif seen.missed is None or seen.heard >= seen.missed:
                seen.missed = asked
            else:
                ended.append(name)
        return ended

    # --- what time says

    def all_called(self, arrays: Mapping[int, ArrayJob]) -> bool:
        """Tell whether a worker has called from every element, so that none is waiting in the scheduler's queue."""
        called = Counter(element.array for element in self.called - self.lost)  # a lost one may be started again
        return all(called[number] >= array.workers for number, array in arrays.items())

    def silent(self, since: float) -> list[str]:
        """Return the workers of which nothing was heard since then."""
        return [name for name, seen in self.known.items() if seen.heard < since]

    def alone(self, now: float) -> float:
        """Return for how many seconds there has been no worker."""
        if self.known:
            self.alone_since = now
        return now - self.alone_since
