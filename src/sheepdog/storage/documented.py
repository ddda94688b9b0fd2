"""The methods that Sheepdog 0.2 documents, beside those that other rooms have."""

from __future__ import annotations

from typing import Any

from ..values.model import Kind, Outcome
from .outcomes import Outcomes


class Documented(Outcomes):
    """The store as it was in Sheepdog 0.2."""

    def get_details(self, request_id: int, job_index: int) -> tuple[bytes, bytes, bytes]:
        """Return (function, namespace, args) of a task, as they were given to new_request."""
        function, namespace = self._one(request_id, "function, namespace")
        return function, namespace, self.arguments(request_id, job_index)

    def store_result(self, request_id: int, job_index: int, result: bytes) -> None:
        """Store the result of a task, unless it has ended already."""
        self._row_id(request_id, job_index)
        self.store_outcomes(request_id, [Outcome(task=job_index, kind=Kind.RESULT, value=result)])

    def store_error(self, request_id: int, job_index: int, error: bytes | str) -> None:
        """Store the error of a task, unless it has ended already."""
        self._row_id(request_id, job_index)
        self.store_outcomes(request_id, [Outcome(task=job_index, kind=Kind.RAISED, value=error)])

    def count_results(self, request_id: int) -> int:
        """Return how many tasks have a result."""
        return self.progress(request_id).done

    def count_errors(self, request_id: int) -> int:
        """Return how many tasks ended with an error, or were cancelled."""
        progress = self.progress(request_id)
        return progress.failed + progress.cancelled

    def count_results_and_errors(self, request_id: int) -> int:
        """Return how many tasks have ended."""
        return self.progress(request_id).ended

    def get_results(self, request_id: int) -> list[tuple[bytes, bytes]]:
        """Return [(args, result)] of the tasks that are done, in order and without gaps."""
        return self._with_results(request_id, "JOIN")

    def get_tasks_with_results(self, request_id: int) -> list[tuple[bytes, bytes | None]]:
        """Return [(args, result)] of all tasks, in order; result is None where there is none."""
        return self._with_results(request_id, "LEFT JOIN")

    def get_errors(self, request_id: int) -> list[tuple[bytes, bytes | str]]:
        """Return [(args, error)] of the tasks that failed, in order."""
        return [(args, outcome.value) for args, outcome in self.errors(request_id)]

    def _with_results(self, request_id: int, join: str) -> list[Any]:
        self.count_tasks(request_id)
        rows = self._query(
            f"SELECT task.args, outcome.value FROM task {join} outcome ON outcome.id = task.id AND kind = 0"  # noqa: S608
            " WHERE task.id BETWEEN ? AND ? ORDER BY task.id",
            *self._rows(request_id),
        )
        return list(rows)
