"""Array jobs: the ones that were submitted for a request."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import fields, replace

from ..values.facts import Event, What
from ..values.model import ArrayJob
from .requests import OPEN, Requests


class Arrays(Requests):
    """The array jobs of a request."""

    def new_array(self, request_id: int, array: ArrayJob) -> ArrayJob:
        """Note an array job that is about to be submitted, and give it a number: it can be found, whatever happens."""
        with self.transaction():
            [(number,)] = self._query("SELECT 1 + ifnull(max(number), 0) FROM array_job WHERE request = ?", request_id)
            values = (array.name, array.directory, array.workers, array.level, json.dumps(array.urls), time.time())
            self.db.execute(
                "INSERT INTO array_job (request, number, name, directory, workers, level, urls, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (request_id, number, *values),
            )
            self.note_directory(request_id, array.name)
        return replace(array, number=int(number))

    def set_submitted(self, request_id: int, array: ArrayJob) -> bool:
        """Note that an array job is in the scheduler's hands. Return whether its request still waits for workers."""
        with self.transaction():
            query = "SELECT job FROM array_job WHERE request = ? AND number = ?"
            if (array.job,) not in self._query(query, request_id, array.number):
                text = f"array job {array.job}, {array.workers} worker{'s' * (array.workers != 1)}"
                self.store_events(request_id, [Event(time.time(), What.SUBMITTED, text=text)])
            self.db.execute(
                "UPDATE array_job SET job = ?, directory = ?, workers = ?, ended = NULL"
                " WHERE request = ? AND number = ?",
                (array.job, array.directory, array.workers, request_id, array.number),
            )
            self.db.execute(
                "UPDATE request SET submitted = ifnull(submitted, ?) WHERE id = ?", (time.time(), request_id)
            )
            return self.step(request_id, "submit") or bool(self._one(request_id, OPEN)[0])

    def set_urls(self, request_id: int, number: int, urls: Sequence[str]) -> None:
        """Note the addresses that the workers of an array job have been told."""
        with self.transaction():
            self.db.execute(
                "UPDATE array_job SET urls = ? WHERE request = ? AND number = ?",
                (json.dumps(list(urls)), request_id, number),
            )

    def end_array(self, request_id: int, number: int) -> None:
        """Note that the scheduler has nothing left of an array job."""
        with self.transaction():
            self.db.execute(
                "UPDATE array_job SET ended = ? WHERE request = ? AND number = ?", (time.time(), request_id, number)
            )

    def arrays(self, request_id: int) -> list[ArrayJob]:
        """Return the array jobs of a request."""
        names = [field.name for field in fields(ArrayJob)]
        rows = self._query(f"SELECT {', '.join(names)} FROM array_job WHERE request = ? ORDER BY number", request_id)  # noqa: S608
        found = (dict(zip(names, row, strict=True)) for row in rows)
        return [ArrayJob(**{**row, "urls": tuple(json.loads(row["urls"]))}) for row in found]
