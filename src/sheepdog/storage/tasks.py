"""Tasks: their arguments, and which have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..client import IN_MEMORY
from ..values.model import StoredBlob
from ..values.ranges import gaps_of, runs_of
from .rows import Rows
from .schema import SPAN


class Tasks(Rows):
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
        [(args,)] = self._query("SELECT args FROM task WHERE id = ?", self._row_id(request_id, task))
        return bytes(args)

    def pending(self, request_id: int) -> list[tuple[int, int]]:
        """Return the tasks without an outcome, as ranges (first, last)."""
        tasks = self.count_tasks(request_id)
        rows = self._query("SELECT id FROM outcome WHERE id BETWEEN ? AND ?", *self._rows(request_id))
        return [*gaps_of((row % SPAN for (row,) in rows), tasks)]

    def ended_among(self, request_id: int, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """Return the tasks in these ranges (first, last) that have ended."""
        base = request_id * SPAN
        return [
            row - base
            for first, last in ranges
            for (row,) in self._query("SELECT id FROM outcome WHERE id BETWEEN ? AND ?", base + first, base + last)
        ]
