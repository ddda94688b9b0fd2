"""Messages: what tasks say while they run.

Reports are kept; of its checkpoints a task's latest, until it has a result.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..client import REPORT, Message, size_of
from ..values.model import Report, StoredBlob
from .rows import Rows
from .schema import SPAN


class Messages(Rows):
    """The reports and checkpoints of tasks."""

    def store_messages(self, request_id: int, messages: Sequence[Message]) -> None:
        """Store what tasks have said: reports, each once, and of each task the latest checkpoint."""
        now = time.time()
        with self.transaction():
            for message in messages:
                task, large = request_id * SPAN + message.task, not isinstance(message.value, bytes)
                value = size_of(message.value) if large else message.value
                place = "zeroblob(?)" if large else "?"
                if message.kind == REPORT:
                    table = "report"
                    cursor = self.db.execute(
                        f"INSERT INTO report (task, attempt, message, stored, value) VALUES (?, ?, ?, ?, {place})"  # noqa: S608
                        " ON CONFLICT DO NOTHING",
                        (task, message.attempt, message.number, now, value),
                    )
                else:
                    table = "checkpoint"
                    cursor = self.db.execute(
                        f"INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, {place})",  # noqa: S608
                        (task, message.attempt, now, value),
                    )
                if large and cursor.rowcount > 0:
                    assert cursor.lastrowid is not None
                    self._write(table, cursor.lastrowid, message.value)

    def reports(self, request_id: int, task: int | None = None, after: int = 0) -> Iterator[Report]:
        """Yield what the tasks of a request have reported, or one of them, in the order in which it came.

        after is the number of a report: only later ones are wanted.
        """
        rows = self._rows(request_id) if task is None else (self._row_id(request_id, task),) * 2
        self.count_tasks(request_id)
        query = "SELECT number, task, attempt, value, stored FROM report WHERE task BETWEEN ? AND ? AND number > ?"
        found = self._query(f"{query} ORDER BY number", *rows, after)
        return (Report(number, row % SPAN, attempt, value, stored) for number, row, attempt, value, stored in found)

    def read_checkpoints(
        self, request_id: int, indexes: Sequence[int], limit: int
    ) -> tuple[dict[int, bytes | StoredBlob], set[int]]:
        """Return the checkpoints of these tasks, within so many bytes but one at least; and the tasks of the others."""
        found: dict[int, bytes | StoredBlob] = {}
        others = set()
        total = 0
        for index in indexes:
            row = request_id * SPAN + index
            for (length,) in self._query("SELECT length(value) FROM checkpoint WHERE id = ?", row):
                if found and total + length > limit:
                    others.add(index)
                else:
                    total += length
                    found[index] = self._blob("checkpoint", "value", row, length)
        return found, others

    def checkpointed(self, request_id: int) -> dict[int, int]:
        """Return the tasks that have a checkpoint, each with the attempt that stored it."""
        rows = self._query("SELECT id, attempt FROM checkpoint WHERE id BETWEEN ? AND ?", *self._rows(request_id))
        return {row % SPAN: attempt for row, attempt in rows}

    def _forget_checkpoints(self, first: int, last: int) -> None:
        """Drop the checkpoints of tasks that have a result, of those between these rows."""
        has_result = "EXISTS (SELECT 1 FROM outcome WHERE outcome.id = checkpoint.id AND kind = 0)"
        self.db.execute(f"DELETE FROM checkpoint WHERE id BETWEEN ? AND ? AND {has_result}", (first, last))  # noqa: S608
