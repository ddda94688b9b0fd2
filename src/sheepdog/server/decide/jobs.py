"""What is known of a request's array jobs: which there are, and what the scheduler says of them."""

from __future__ import annotations

from collections.abc import Collection

from ...values.model import ArrayJob, JobStatus
from .workers import Element


class ArrayJobs:
    """The array jobs of one request, by number."""

    def __init__(self) -> None:
        self.there: dict[int, ArrayJob] = {}  # those of which the scheduler may know
        self.past: dict[int, ArrayJob] = {}  # those that count as ended, though the scheduler may still run them
        self.levels: dict[int, int] = {}  # of all, however they are
        self.statuses: dict[int, JobStatus] = {}  # what the scheduler said of them
        self.missed: dict[int, int] = {}  # how often in a row it had nothing left of them
        self.before: dict[int, JobStatus] = {}  # what it said of them last while they were there
        self.asked: dict[int, float] = {}  # when it was asked that
        self.fell: dict[int, tuple[int, float]] = {}  # how many elements ended without a call, and since when so many
        self.looked: dict[int, int] = {}  # how many they were when that was looked into
        self.failed: dict[int, set[str]] = {}  # elements of which it is known that they ended, and were not deleted
        self.size = 0  # how many workers there are to be at most
        self.largest = 0  # how many elements the largest has had
        self.cut = False  # whether one was deleted on purpose while there were others
        self.anew = False  # whether the last one was, and other work comes: it has new workers
        self.directory = ""  # of the latest one's files
        self.started = False  # whether any element is known to have run
        self.explained = False  # whether the last one of which the scheduler had nothing left has said why

    def add(self, array: ArrayJob, expected: bool) -> None:
        """Take note of an array job, and of what it calls now. expected: workers may come of it."""
        self.largest = max(self.largest, array.workers)
        self.size = max(self.size, array.workers)
        self.levels[array.number] = array.level
        self.directory = array.directory
        if expected:
            self.there[array.number] = array
            self.anew = False
            self.past.pop(array.number, None)
        elif array.job:
            self.past[array.number] = array

    def plan(self, array: ArrayJob) -> None:
        """Take note of one that is being submitted: its workers may call before that has returned."""
        self.levels[array.number] = array.level

    def forget_plan(self, number: int) -> None:
        """Forget one that was not submitted."""
        self.levels.pop(number, None)

    def end(self, number: int) -> None:
        """Forget one of which the scheduler has nothing left. A worker of it may be late: its level stays."""
        status = self.statuses.get(number)
        if number in self.there and status and not status.gone:
            self.past[number] = self.there[number]
        for memory in (self.there, self.statuses, self.missed, self.before):
            memory.pop(number, None)

    def hear(self, number: int, status: JobStatus, lost: Collection[Element], asked: float = 0.0) -> None:
        """Take note of what the scheduler says. lost are the elements that do not run, whatever it says."""
        self.statuses[number], self.asked[number] = status, asked
        if not status.gone:
            self.before[number] = status
        self.started = self.started or bool(status.running) or status.started
        self.explained = status.explained if status.gone else self.explained
        over = not (self._running(number, status) - set(lost) or status.pending or status.broken)
        self.missed[number] = self.missed.get(number, 0) + 1 if over else 0

    def count_fallen(self, number: int, called: Collection[str]) -> None:
        """Take note of how many elements have ended from which no worker has called."""
        array, status = self.there.get(number), self.statuses[number]
        if array is not None and not status.gone:
            count = array.workers - status.pending - len({*status.running, *called})
            if count > self.fell.get(number, (0, 0.0))[0]:
                self.fell[number] = count, self.asked[number]

    def look(self, number: int) -> bool:
        """Note that it is looked into how elements ended without a call; return whether there are more than before."""
        count, before = self.fell.get(number, (0, 0.0))[0], self.looked.get(number, 0)
        self.looked[number] = count
        return count > before

    def cut_down(self) -> None:
        """Make do with those that are there: another one was deleted on purpose."""
        if self.there:
            self.size, self.cut = sum(array.workers for array in self.there.values()), True

    def begin_anew(self) -> None:
        """Expect others: the last one was deleted on purpose, and what comes is new work."""
        self.size, self.cut, self.anew = self.largest, False, True

    # --- what it says of all of them

    @property
    def running(self) -> set[Element]:
        """The elements that run, as far as the scheduler knows."""
        return {element for number, status in self.statuses.items() for element in self._running(number, status)}

    @property
    def pending(self) -> int:
        """How many elements wait."""
        return sum(status.pending for status in self.statuses.values())

    @property
    def held(self) -> bool:
        """Whether elements are on hold."""
        return any(status.held for status in self.statuses.values())

    @property
    def broken(self) -> str:
        """Why elements cannot start; empty if they can."""
        return "; ".join(status.reason for status in self.statuses.values() if status.broken)

    @property
    def is_broken(self) -> bool:
        """Whether elements cannot start."""
        return any(status.broken for status in self.statuses.values())

    @property
    def in_doubt(self) -> bool:
        """Whether the scheduler had nothing left of one, and has not said so twice."""
        return any(self.missed.values())

    def ended(self, alive: Collection[int]) -> int | None:
        """Return the number of one that is no more: the scheduler has said so twice, and no worker is of it."""
        return next((number for number, missed in self.missed.items() if missed >= 2 and number not in alive), None)

    @staticmethod
    def _running(number: int, status: JobStatus) -> set[Element]:
        return {Element(number, name) for name in status.running}
