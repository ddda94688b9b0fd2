"""The history: attempts that ended without ending their task, and outcomes that a retry took back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..values.files import Function
from ..values.model import TASK_STATES, Kind, Outcome, RequestState, State, before
from .ended import Ended
from .outcomes import MEASURED, OUTCOME, outcome_of
from .requests import Requests, new_token
from .schema import SPAN


class History(Requests, Ended):
    """The attempts of a request's tasks, and what makes tasks pending again."""

    def store_attempts(self, request_id: int, attempts: Sequence[Outcome], counts: bool = True) -> list[bool]:
        """Store attempts that ended. Return for each whether it was new. If counts, the policy counts them."""
        now = time.time()
        base = request_id * SPAN
        statement = "INSERT OR IGNORE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        with self.transaction():
            return [
                self.db.execute(
                    statement,
                    (
                        base + attempt.task,
                        attempt.attempt,
                        attempt.kind,
                        counts,
                        attempt.host,
                        attempt.seconds,
                        attempt.output or None,
                        now,
                        attempt.text.encode("utf-8", "replace"),
                        attempt.signal,
                        attempt.status,
                        attempt.peak,
                    ),
                ).rowcount
                > 0
                for attempt in attempts
            ]

    def attempts(self, request_id: int, pending: bool = False) -> Iterator[tuple[Outcome, bool]]:
        """Yield the attempts of a request's tasks that did not end them, in order, and whether the policy counts them.

        If pending, only those that were begun, of tasks that have not ended.
        """
        self.count_tasks(request_id)
        rows = self._query(
            f"SELECT counts, 0, {OUTCOME} FROM attempt WHERE id BETWEEN ? AND ?"  # noqa: S608
            " AND NOT (? AND (attempt = 0 OR id IN (SELECT id FROM outcome))) ORDER BY id, attempt, stored",
            *self._rows(request_id),
            pending,
        )
        return ((outcome_of(*row), bool(counts)) for counts, *row in rows)

    def count_retried(self, request_id: int, failed: bool) -> int:
        """Return how many tasks a retry would make pending."""
        return sum(self._retried(request_id, failed).values())

    def retry(self, request_id: int, options: dict[str, Any], failed: bool, function: Function | None = None) -> int:
        """Make tasks of an ended request pending again: those that were never run, and if so asked those that failed.

        Their errors go into the history. The request gets these options and a new token, and the function if one is
        given. Return how many tasks there are; 0, and nothing is changed, if there are none or the request has not
        ended.
        """
        kinds = f"kind IN ({_kinds_to_retry(failed)})"
        where = f"id BETWEEN ? AND ? AND {kinds}"
        with self.transaction():
            rows = self._rows(request_id)
            counts = self._retried(request_id, failed)
            if not sum(counts.values()) or not self.step(request_id, "retry"):
                return 0
            self.db.execute("UPDATE attempt SET counts = 0 WHERE id BETWEEN ? AND ?", rows)
            self.db.execute(
                "INSERT OR REPLACE INTO attempt SELECT id, max(attempt, attempts), kind, 0, host, seconds, output,"  # noqa: S608
                " stored, value, ifnull(signal, 0), status, ifnull(peak, 0)"
                f" FROM {self._outcomes(request_id)} {MEASURED} WHERE {where}",
                rows,
            )
            self.db.execute(f"DELETE FROM measure WHERE id IN (SELECT id FROM outcome WHERE {where})", rows)  # noqa: S608
            self.db.execute(f"DELETE FROM outcome WHERE {where}", rows)  # noqa: S608
            self.db.execute(f"DELETE FROM ended_range WHERE first BETWEEN ? AND ? AND {kinds}", rows)  # noqa: S608
            for table in ("array_job", "worker"):
                ended = f"UPDATE {table} SET ended = ifnull(ended, ?) WHERE request = ?"  # noqa: S608
                self.db.execute(ended, (time.time(), request_id))
            self.db.execute(
                "UPDATE request SET failed = failed - ?, cancelled = cancelled - ?, token = ?, options = ?,"
                " submitted = NULL, ended = NULL, gave_up = 0, fruitless = 0, leased = 0, note = '' WHERE id = ?",
                (counts[State.FAILED], counts[State.CANCELLED], new_token(), json.dumps(options), request_id),
            )
            if function is not None:
                self._set_function(request_id, function)
            self.sign_request(request_id, again=function is None)
        return sum(counts.values())

    def undo_retry(self, request_id: int, options: dict[str, Any], function: Function | None = None) -> None:
        """Give a request that could not be submitted again its tasks' errors back, its options and its function."""
        with self.transaction():
            if self.get_request(request_id).state != RequestState.NEW:
                return
            columns = "id, kind, attempt, host, seconds, output, stored, value"
            latest = "rowid IN (SELECT max(rowid) FROM attempt WHERE id BETWEEN ? AND ? GROUP BY id)"
            again = f"FROM attempt WHERE {latest} AND id NOT IN (SELECT id FROM outcome)"  # noqa: S608
            rows = self._rows(request_id)
            counts = dict.fromkeys(State, 0)
            for kind, count in self._query(f"SELECT kind, count(*) {again} GROUP BY kind", *rows):
                counts[Kind(kind).state] += count
            self.db.execute(
                f"INSERT OR REPLACE INTO measure SELECT id, signal, status, peak {again}"
                " AND (signal OR status IS NOT NULL OR peak)",
                rows,
            )
            self.db.execute(f"INSERT INTO outcome (attempts, {columns}) SELECT attempt, {columns} {again}", rows)
            self.db.execute(
                f"DELETE FROM attempt WHERE {latest} AND (id, stored) IN (SELECT id, stored FROM outcome)",  # noqa: S608
                rows,
            )
            self.db.execute(
                "UPDATE request SET failed = failed + ?, cancelled = cancelled + ?, options = ?, ended = ?"
                " WHERE id = ?",
                (counts[State.FAILED], counts[State.CANCELLED], json.dumps(options), time.time(), request_id),
            )
            if function is not None:
                self._set_function(request_id, function)
            self.step(request_id, "end")
            self.sign_request(request_id, again=function is None)

    def _retried(self, request_id: int, failed: bool) -> dict[State, int]:
        """Return how many tasks a retry would make pending, by the states that they are in."""
        counts = dict.fromkeys(State, 0)
        statement = (
            f"SELECT kind, count(*) FROM {self._outcomes(request_id)} WHERE id BETWEEN ? AND ?"  # noqa: S608
            f" AND kind IN ({_kinds_to_retry(failed)}) GROUP BY kind"
        )
        for kind, count in self._query(statement, *self._rows(request_id)):
            counts[Kind(kind).state] += count
        return counts


def _kinds_to_retry(failed: bool) -> str:
    again = [kind for kind in Kind if kind.state in before(TASK_STATES, "retry")]
    return ", ".join(str(int(kind)) for kind in again if failed or kind in (Kind.NOT_RUN, Kind.CANCELLED))
