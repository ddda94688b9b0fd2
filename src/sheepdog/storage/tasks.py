"""Tasks: their arguments, and which have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..client import IN_MEMORY
from ..errors import RequestNotFound
from ..values.model import StoredBlob
from ..values.ranges import gaps_between, gaps_of, runs_of
from .ended import Ended
from .schema import SPAN


class Tasks(Ended):
    """The tasks of a request."""

    def read_tasks(self, request_id: int, indexes: Sequence[int], limit: int) -> list[tuple[int, bytes | StoredBlob]]:
        """Return the arguments of these tasks, in ascending order, until there are more bytes than the limit."""
        found: list[tuple[int, bytes | StoredBlob]] = []
        base, total = request_id * SPAN, 0
        for start, stop in runs_of(sorted(indexes)):
            rows = self.db.execute(
                "SELECT id, length(args), CASE WHEN length(args) <= ? THEN args END FROM task WHERE id BETWEEN ? AND ?",
                (IN_MEMORY, base + start, base + stop),
            )
            for row, length, args in rows:
                if found and total + length > limit:
                    return found
                total += length
                found.append((row - base, args if args is not None else StoredBlob("task", "args", row, length)))
        return found

    def arguments(self, request_id: int, task: int) -> bytes:
        """Return the serialised arguments of a task."""
        for (args,) in self._query("SELECT args FROM task WHERE id = ?", self._row_id(request_id, task)):
            return bytes(args)
        raise self._no_more(request_id, task)

    def _no_more(self, request_id: int, task: int) -> RequestNotFound:
        """Return the error of a task of which nothing is stored any more."""
        return RequestNotFound(
            f"task {task} of request {request_id} is not stored any more in {self.dbfile}: its caller has its result. "
            "With the option keep, such tasks stay"
        )

    def pending(self, request_id: int) -> list[tuple[int, int]]:
        """Return the tasks without an outcome, as ranges (first, last)."""
        tasks = self.count_tasks(request_id)
        base, found = request_id * SPAN, list[tuple[int, int]]()
        ranges = [(first, last) for first, last, *_ in self._ranges_among(request_id, 1, SPAN - 1)]
        for first, last in gaps_between(ranges, tasks):
            rows = self._query("SELECT id FROM outcome WHERE id BETWEEN ? AND ?", base + first, base + last)
            found += gaps_of((row - base for (row,) in rows), last, first)
        return found

    def ended_among(self, request_id: int, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """Return the tasks in these ranges (first, last) that have ended."""
        base, found = request_id * SPAN, []
        for first, last in ranges:
            rows = self._query("SELECT id FROM outcome WHERE id BETWEEN ? AND ?", base + first, base + last)
            found += [row - base for (row,) in rows]
            for start, end, *_ in self._ranges_among(request_id, first, last):
                found += range(start, end + 1)
        return found
