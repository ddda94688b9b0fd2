"""Delivered tasks: their callers have their results, and the room that they took is used again.

A range says that they have ended; so they are never run again, and a late report of one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..values.ranges import Range
from .rows import Rows
from .schema import SPAN


class Delivered(Rows):
    """The tasks of a request of which nothing is stored any more but that they have ended."""

    def discard(self, request_id: int, ranges: Iterable[Range]) -> None:
        """Drop tasks of these ranges (first, last) that have ended, with all that is stored of them.

        Only what they have reported stays, and the arguments with it.
        """
        with self.transaction():
            self.count_tasks(request_id)
            for first, last in ranges:
                rows = request_id * SPAN + first, request_id * SPAN + last
                for table in ("outcome", "measure", "attempt", "checkpoint"):
                    self.db.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", rows)  # noqa: S608
                silent = "NOT EXISTS (SELECT 1 FROM report WHERE report.task = task.id)"
                self.db.execute(f"DELETE FROM task WHERE id BETWEEN ? AND ? AND {silent}", rows)  # noqa: S608
                self._deliver(*rows)

    def _deliver(self, first: int, last: int) -> None:
        """Note a range of rows, as one with those that it touches."""
        for row, end in list(self._overlapping(first - 1, last + 1)):
            self.db.execute("DELETE FROM delivered WHERE first = ?", (row,))
            first, last = min(first, row), max(last, end)
        self.db.execute("INSERT INTO delivered VALUES (?, ?)", (first, last))

    def delivered(self, request_id: int) -> list[Range]:
        """Return the ranges (first, last) of the tasks that have been delivered, in order."""
        self.count_tasks(request_id)
        return self._delivered_among(request_id, 1, SPAN - 1)

    def _delivered_among(self, request_id: int, first: int, last: int) -> list[Range]:
        base = request_id * SPAN
        found = self._overlapping(base + first, base + last)
        return [(max(first, row - base), min(last, end - base)) for row, end in found]

    def _overlapping(self, first: int, last: int) -> Iterable[Range]:
        before = "ifnull((SELECT max(first) FROM delivered WHERE first <= ?), 0)"
        query = f"SELECT first, last FROM delivered WHERE first BETWEEN {before} AND ? AND last >= ? ORDER BY first"  # noqa: S608
        return self._query(query, first, last, first)
