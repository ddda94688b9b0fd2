"""Ranges of tasks that have ended, in place of a row for each: delivered, or ended together before they were begun.

What was delivered is with its callers, and the room that it took is used again. What is in a range is never run again,
and a late report of it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..values.model import Kind
from ..values.ranges import Range, without
from .rows import Rows
from .schema import SPAN

WITH_RANGES = """(
    SELECT task.id AS id, ifnull(outcome.kind, ended_range.kind) AS kind, ifnull(attempt, 0) AS attempt,
        ifnull(attempts, 0) AS attempts, ifnull(host, '') AS host, ifnull(seconds, 0.0) AS seconds, output,
        ifnull(outcome.stored, ended_range.stored) AS stored, ifnull(outcome.value, ended_range.value) AS value
    FROM task LEFT JOIN outcome USING (id) LEFT JOIN ended_range
        ON ended_range.first = (SELECT max(first) FROM ended_range WHERE first <= task.id) AND last >= task.id
    WHERE ifnull(outcome.kind, ended_range.kind) IS NOT NULL
) AS outcome"""


class Ended(Rows):
    """The tasks of a request that have ended, and have no row that says so."""

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
        """Note a range of rows, as one with those that it touches, and in place of others."""
        parts = []
        for row, end, *how in list(self._overlapping(first - 1, last + 1)):
            self.db.execute("DELETE FROM ended_range WHERE first = ?", (row,))
            if how[0] is None:
                first, last = min(first, row), max(last, end)
            else:
                parts += [(*part, *how) for part in without((row, end), first, last)]
        self.db.executemany("INSERT INTO ended_range VALUES (?, ?, ?, ?, ?)", [(first, last, None, None, None), *parts])

    def delivered(self, request_id: int) -> list[Range]:
        """Return the ranges (first, last) of the tasks that have been delivered, in order."""
        self.count_tasks(request_id)
        return [(first, last) for first, last, kind, *_ in self._ranges_among(request_id, 1, SPAN - 1) if kind is None]

    def _end_together(self, ranges: Iterable[Range], kind: Kind, now: float, error: bytes) -> None:
        """Note ranges of rows, of tasks that have not ended and were never begun, with the error of each."""
        rows = [(first, last, int(kind), now, error) for first, last in ranges]
        self.db.executemany("INSERT INTO ended_range VALUES (?, ?, ?, ?, ?)", rows)

    def _outcomes(self, request_id: int) -> str:
        """Return what to read the outcomes of a request from: the table, or with it the ranges that ended together."""
        some = "SELECT 1 FROM ended_range WHERE kind IS NOT NULL AND first BETWEEN ? AND ? LIMIT 1"
        return WITH_RANGES if any(self._query(some, *self._rows(request_id))) else "outcome"

    def _ranges_among(self, request_id: int, first: int, last: int) -> list[tuple[int, int, int | None, float, bytes]]:
        """Return the ranges of tasks between these (first, last, kind, when stored, error)."""
        base = request_id * SPAN
        found = self._overlapping(base + first, base + last)
        return [(max(first, row - base), min(last, end - base), *how) for row, end, *how in found]

    def _overlapping(self, first: int, last: int) -> Iterable[Any]:
        before = "ifnull((SELECT max(first) FROM ended_range WHERE first <= ?), 0)"
        where = f"first BETWEEN {before} AND ? AND last >= ?"
        return self._query(f"SELECT * FROM ended_range WHERE {where} ORDER BY first", first, last, first)  # noqa: S608
