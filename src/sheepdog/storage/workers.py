"""Workers: what is known of each, and how many are at work."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..values.facts import Event, What, WorkerFacts
from .events import Events

WORKER = WorkerFacts._fields


class Workers(Events):
    """The workers of a request."""

    def store_workers(self, request_id: int, workers: Iterable[WorkerFacts]) -> None:
        """Store what is known of workers, in place of what was known of them before."""
        columns = ", ".join(WORKER)
        places = ", ".join("?" * len(WORKER))
        with self.transaction():
            self.count_tasks(request_id)
            self.db.executemany(
                f"INSERT OR REPLACE INTO worker (request, {columns}) VALUES (?, {places})",  # noqa: S608
                ((request_id, *(getattr(worker, name) for name in WORKER)) for worker in workers),
            )

    def workers(self, request_id: int) -> list[WorkerFacts]:
        """Return what is known of the workers of a request, in the order in which they came."""
        self.count_tasks(request_id)
        query = f"SELECT {', '.join(WORKER)} FROM worker WHERE request = ? ORDER BY joined, name"  # noqa: S608
        return [WorkerFacts(*row) for row in self._query(query, request_id)]

    def _at_work(self, request_id: int) -> tuple[int, int, tuple[str, ...]]:
        """Return how many tasks run, how many workers are there, and on which hosts: what they said last.

        One whose task has ended since has the next by now, if there is one.
        """
        query = "SELECT host, count(*), sum(task != 0) FROM worker WHERE request = ? AND ended IS NULL GROUP BY host"
        rows = [*self._query(query, request_id)]
        hosts = tuple(host for host, _, _ in rows if host)
        return sum(running for _, _, running in rows), sum(workers for _, workers, _ in rows), hosts

    def _end_workers(self, request_id: int) -> None:
        """Note that a request has ended, and its workers with it."""
        now = time.time()
        self.db.execute(
            "UPDATE worker SET ended = ?, why = ?, task = 0, attempt = 0, since = NULL"
            " WHERE request = ? AND ended IS NULL",
            (now, "the request has ended", request_id),
        )
        self.store_events(request_id, [Event(now, What.ENDED)])
