"""Events: what happened, when and to whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..printable import printable
from ..values.facts import Event, What
from .rows import Rows


class Events(Rows):
    """What happened to a request."""

    def store_events(self, request_id: int, events: Iterable[Event]) -> None:
        """Store what happened. The events get their numbers here."""
        with self.transaction():
            self.count_tasks(request_id)
            self.db.executemany(
                "INSERT INTO event (request, at, what, task, worker, text) VALUES (?, ?, ?, ?, ?, ?)",
                ((request_id, e.at, e.what, e.task, e.worker, printable(e.text)) for e in events),
            )

    def said(self, request_id: int, what: What) -> list[str]:
        """Return the texts of one kind of event of a request, each once."""
        texts = self._query("SELECT text FROM event WHERE request = ? AND what = ? ORDER BY number", request_id, what)
        return list(dict.fromkeys(text for (text,) in texts))

    def events(self, request_id: int, task: int | None = None, after: int = 0) -> Iterator[Event]:
        """Yield what happened to a request, or to one of its tasks, in the order in which it happened.

        after is the number of an event: only later ones are wanted.
        """
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT at, what, task, worker, text, number FROM event WHERE request = ? AND number > ?"
            " AND (? IS NULL OR task = ?) ORDER BY at, number",
            *(request_id, after, task, task),
        )
        return (Event(*row) for row in rows)
