"""Outcomes: how tasks ended. The first of a task stays: a repeated report changes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..client import size_of
from ..errors import RequestNotFound
from ..values.model import ENDS, Cause, Kind, Outcome, State
from ..values.ranges import Ranges, runs_of
from .messages import Messages
from .requests import Requests
from .schema import SPAN
from .tasks import Tasks

CAUSE = 10_000  # bytes of an error in which its first line should end

INSERT_OUTCOME = (
    "INSERT INTO outcome (id, kind, attempt, attempts, host, seconds, output, stored, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?,"
)
OUTCOME = "id, kind, value, attempt, host, seconds, output, signal, status, peak"
MEASURED = "LEFT JOIN measure USING (id)"
ENDED_ELSEWHERE = f"kind IN ({int(Kind.LOST)}, {int(Kind.NOT_RUN)}, {int(Kind.CANCELLED)})"
PRINTED = (  # by the task's latest attempt that is known to have printed, where it was not the attempt that ended it
    f"CASE WHEN output IS NULL AND {ENDED_ELSEWHERE} THEN (SELECT attempt.output FROM attempt"  # noqa: S608
    " WHERE attempt.id = outcome.id AND attempt.output IS NOT NULL ORDER BY attempt.attempt DESC, attempt.stored DESC"
    " LIMIT 1) ELSE output END"
)
UNLESS_THERE = (
    "ON CONFLICT (id) DO NOTHING"  # no state in which a task has ended allows another end: see values/model.py
)


class Outcomes(Requests, Tasks, Messages):
    """How the tasks of a request ended."""

    def store_outcomes(self, request_id: int, outcomes: Sequence[Outcome]) -> list[int]:
        """Store outcomes, all or none; the first one of a task stays. Return the tasks that had ended before."""
        now = time.time()
        base = request_id * SPAN
        counts = dict.fromkeys((State.DONE, State.FAILED, State.CANCELLED), 0)
        with self.transaction():
            tasks = self.count_tasks(request_id)
            named = sorted({outcome.task for outcome in outcomes})
            for task in named[:1] + named[-1:]:
                if not 1 <= task <= tasks:
                    raise RequestNotFound(f"request {request_id} has no task {task}, only 1 to {tasks}")
            ended = {*self.ended_among(request_id, runs_of(named))}
            late, again = [], []
            small, measures = [], []
            for outcome in outcomes:
                task, attempt, kind, seconds, value, output, host, attempts, signal, status, peak = outcome
                if task in ended:
                    late.append(task)
                    again.append((attempt, base + task))
                    continue
                ended.add(task)
                counts[ENDS.get(kind, State.FAILED)] += 1
                large = not isinstance(value, (bytes, str))
                row = (
                    base + task,
                    int(kind),
                    attempt,
                    attempts if attempts > attempt else attempt,
                    host,
                    0.0 if math.isnan(seconds) else seconds,
                    output or None,
                    now,
                    size_of(value) if large else value,
                )
                if large:
                    self.db.execute(f"{INSERT_OUTCOME} zeroblob(?)) {UNLESS_THERE}", row)
                    self._write("outcome", row[0], value)
                else:
                    small.append(row)
                if signal or peak or status is not None:
                    measures.append((base + task, signal, status, peak))
            self.db.executemany(f"{INSERT_OUTCOME} ?) {UNLESS_THERE}", small)
            if measures:
                self.db.executemany("INSERT OR REPLACE INTO measure VALUES (?, ?, ?, ?)", measures)
            if counts[State.DONE]:
                self._forget_checkpoints(base + min(ended), base + max(ended))
            if again:
                self.db.executemany("UPDATE outcome SET attempts = max(attempts, ?) WHERE id = ?", again)
            new = tuple(counts.values())
            if any(new):
                self.db.execute(
                    "UPDATE request SET done = done + ?, failed = failed + ?, cancelled = cancelled + ? WHERE id = ?",
                    (*new, request_id),
                )
                self._end_if_finished(request_id)
        return late

    def end_pending(self, request_id: int, kind: Kind, error: str, tasks: Iterable[int] | None = None) -> int:
        """End every task that has not ended, or only these, with this error. Return how many there were.

        If it is every task, those that were never begun are ranges from now on, and no rows.
        """
        base, count = request_id * SPAN, 0
        attempts = "ifnull((SELECT max(attempt) FROM attempt WHERE attempt.id = task.id), 0) + (id <= ?)"
        statement = (
            "INSERT INTO outcome (id, kind, attempt, attempts, host, seconds, output, stored, value)"  # noqa: S608
            f" SELECT id, ?, 0, {attempts}, '', 0.0, NULL, ?, ? FROM task WHERE id BETWEEN ? AND ?"
        )
        with self.transaction():
            leased, now, value = self.leased(request_id), time.time(), error.encode("utf-8", "replace")
            if tasks is None:
                never_begun = Ranges(self.pending(request_id))
                begun = [(first, min(last, leased)) for first, last in never_begun if first <= leased]
                before = "SELECT DISTINCT id FROM attempt WHERE id BETWEEN ? AND ? AND attempt > 0 ORDER BY id"
                retried = [row - base for (row,) in self._query(before, base + leased + 1, base + SPAN - 1)]
                begun += runs_of(task for task in retried if task in never_begun)
            else:
                never_begun = Ranges()
                named = {task for task in tasks if 0 < task < SPAN}
                begun = [*runs_of(sorted(named.difference(self.ended_among(request_id, runs_of(sorted(named))))))]
            for first, last in begun:
                told = int(kind), base + leased, now, value, base + first, base + last
                count += self.db.execute(statement, told).rowcount
                never_begun.remove(first, last)
            count += never_begun.count
            self._end_together(((base + first, base + last) for first, last in never_begun), kind, now, value)
            column = kind.state.name.lower()
            self.db.execute(f"UPDATE request SET {column} = {column} + ? WHERE id = ?", (count, request_id))  # noqa: S608
            self._end_if_finished(request_id)
        return count

    def outcomes(self, request_id: int, ranges: Iterable[tuple[int, int]]) -> Iterator[Outcome]:
        """Yield how tasks in these ranges (first, last) ended, of those that have."""
        read = f"SELECT attempts, {OUTCOME} FROM {self._outcomes(request_id)} {MEASURED}"  # noqa: S608
        for first, last in ranges:
            rows = self._query(
                f"{read} WHERE id BETWEEN ? AND ? ORDER BY id",
                request_id * SPAN + first,
                request_id * SPAN + last,
            )
            yield from (outcome_of(*row) for row in rows)

    def first_outcomes(self, request_id: int, limit: int) -> list[Outcome]:
        """Return what the first tasks ended with since the request was submitted; one result, if there is any."""
        [since] = self._one(request_id, "ifnull(submitted, created)")
        ended = f"FROM {self._outcomes(request_id)} WHERE id BETWEEN ? AND ? AND stored >= ?"
        for (row,) in self._query(
            f"SELECT id {ended} AND kind = 0 LIMIT 1",
            *self._rows(request_id),
            since,
        ):
            return [Outcome(task=row % SPAN, kind=Kind.RESULT, value=b"")]
        rows = self._query(
            f"SELECT id, kind, value {ended} ORDER BY stored LIMIT ?",
            *self._rows(request_id),
            since,
            limit,
        )
        return [Outcome(task=row % SPAN, kind=Kind(kind), value=value) for row, kind, value in rows]

    def latest_ends(self, request_id: int, limit: int) -> list[tuple[Outcome, float]]:
        """Return how the latest attempts ended since the request was submitted, in order; and how many seconds ago.

        Results are empty, and errors cut.
        """
        [since] = self._one(request_id, "ifnull(submitted, created)")
        where = "host != '' AND stored >= ? AND id BETWEEN ? AND ?"
        said = "id, kind, host, stored, CASE WHEN kind THEN CAST(substr(value, 1, ?) AS BLOB) ELSE x'' END"
        each = (
            f"SELECT * FROM (SELECT {said} FROM {table} WHERE {where} ORDER BY stored DESC LIMIT ?)"  # noqa: S608
            for table in ("outcome", "attempt")
        )
        rows = self._query(
            f"{' UNION ALL '.join(each)} ORDER BY stored DESC LIMIT ?",
            *(CAUSE, since, *self._rows(request_id), limit) * 2,
            limit,
        )
        now = time.time()
        ends = [
            (Outcome(task=row % SPAN, kind=Kind(kind), value=value, host=host), now - at)
            for row, kind, host, at, value in rows
        ]
        return ends[::-1]

    def results(self, request_id: int) -> Iterator[tuple[int, bytes]]:
        """Yield (index, serialised result) of the tasks that are done, in order."""
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT id, value FROM outcome WHERE id BETWEEN ? AND ? AND kind = 0", *self._rows(request_id)
        )
        return ((row % SPAN, value) for row, value in rows)

    def tasks(self, request_id: int) -> Iterator[tuple[int, bytes, Kind | None, Any]]:
        """Yield (index, serialised arguments, kind, value) of every task that is stored, in order.

        Kind and value are None if it has not ended.
        """
        for index, args, kind, value in self._stored(request_id, "task.args, kind, value"):
            yield index, args, None if kind is None else Kind(kind), value

    def outputs(self, request_id: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield (serialised arguments, end of what it printed) of every task that is stored, in order.

        It is empty if the task has not ended.
        """
        for _, args, output in self._stored(request_id, f"task.args, ifnull({PRINTED}, x'')"):
            yield args, bytes(output)

    def _stored(self, request_id: int, columns: str) -> Iterator[Any]:
        self.count_tasks(request_id)
        delivered = Ranges(self.delivered(request_id))
        rows = self._query(
            f"SELECT id, {columns} FROM task LEFT JOIN {self._outcomes(request_id)} USING (id)"  # noqa: S608
            " WHERE id BETWEEN ? AND ? ORDER BY id",
            *self._rows(request_id),
        )
        return ((row % SPAN, *rest) for row, *rest in rows if row % SPAN not in delivered)

    def output(self, request_id: int, task: int) -> bytes:
        """Return the end of what a task printed; empty if it has not ended."""
        row = self._row_id(request_id, task)
        for (output,) in self._query(f"SELECT {PRINTED} FROM outcome WHERE id = ?", row):  # noqa: S608
            return output or b""
        if any(kind is None for _, _, kind, *_ in self._ranges_among(request_id, task, task)):
            raise self._no_more(request_id, task)
        return b""

    def keep_output(self, request_id: int, attempt: Outcome) -> None:
        """Keep what a task had printed when an attempt of it was stopped, because it was cancelled."""
        where = "id = ? AND kind = ? AND output IS NULL"
        row = request_id * SPAN + attempt.task
        with self.transaction():
            self.db.execute(f"UPDATE outcome SET output = ? WHERE {where}", (attempt.output, row, int(Kind.CANCELLED)))  # noqa: S608

    def causes(self, request_id: int) -> list[Cause]:
        """Return why tasks have no result, each cause once, the most frequent first."""
        self.count_tasks(request_id)
        line = "CAST(substr(value, 1, ?) AS TEXT)"
        rows = self._query(
            f"SELECT kind, substr({line}, 1, instr({line} || char(10), char(10)) - 1) AS line, count(*) AS tasks,"  # noqa: S608
            f" sum(attempts > 0) FROM {self._outcomes(request_id)} WHERE id BETWEEN ? AND ? AND kind != 0"
            " GROUP BY kind, line ORDER BY tasks DESC, min(id)",
            *(CAUSE, CAUSE, *self._rows(request_id)),
        )
        return [Cause(Kind(kind), *rest) for kind, *rest in rows]

    def errors(self, request_id: int) -> Iterator[tuple[bytes, Outcome]]:
        """Yield (serialised arguments, outcome) of the tasks that ended without a result, in order."""
        self.count_tasks(request_id)
        rows = self._query(
            f"SELECT args, attempts, {OUTCOME} FROM {self._outcomes(request_id)} {MEASURED} JOIN task USING (id)"  # noqa: S608
            " WHERE id BETWEEN ? AND ? AND kind != 0",
            *self._rows(request_id),
        )
        return ((args, outcome_of(*row)) for args, *row in rows)


def outcome_of(
    attempts: int,
    row: int,
    kind: int,
    value: Any,
    attempt: int,
    host: str,
    seconds: float,
    output: bytes | None,
    signal: int | None,
    status: int | None,
    peak: int | None,
) -> Outcome:
    """Return the outcome that its columns tell: the number of its attempts, and those of OUTCOME."""
    return Outcome(
        task=row % SPAN,
        kind=Kind(kind),
        value=value,
        attempt=attempt,
        host=host,
        seconds=seconds,
        output=output or b"",
        attempts=attempts,
        signal=signal or 0,
        status=status,
        peak=peak or 0,
    )
