"""The directories of array jobs on their hosts: what is to become of them, also when their request is no more."""

from __future__ import annotations

import json

from ..values.directories import DirectoryState, LeftDirectory
from .own import Own, is_signed


class Directories(Own):
    """The directories that lie somewhere, as far as is known."""

    def note_directory(self, request_id: int, name: str) -> None:
        """Note that an array job of a request is about to get a directory."""
        [options] = self._one(request_id, "options")
        row = (name, request_id, options, self.signer()("directory", name, options), DirectoryState.IN_USE)
        self.db.execute("INSERT OR REPLACE INTO job_directory VALUES (?, ?, '', ?, ?, ?)", row)

    def leave_directories(self, request_id: int, whole: bool) -> None:
        """Note that a request needs its directories no more: they are to go, or if not whole but what is needless."""
        job = "(SELECT job FROM array_job WHERE array_job.request = ? AND array_job.name = job_directory.name)"
        with self.transaction():
            self.db.execute(
                f"UPDATE job_directory SET job = ifnull({job}, job), state = ?"  # noqa: S608
                " WHERE request = ? AND (? OR state = ?)",
                (
                    request_id,
                    DirectoryState.TO_REMOVE if whole else DirectoryState.TO_TIDY,
                    request_id,
                    whole,
                    DirectoryState.IN_USE,
                ),
            )

    def left_directories(self, request_id: int | None = None) -> list[LeftDirectory]:
        """Return the directories with which something is to be done, all of this file or those of a request."""
        rows = self._query(
            "SELECT name, job, options, state, NOT EXISTS (SELECT 1 FROM request WHERE id = request), home"
            " FROM job_directory WHERE state > 1 AND (? IS NULL OR request = ?) ORDER BY name",
            *(request_id, request_id),
        )
        sign = self.signer()
        return [
            LeftDirectory(name, job, json.loads(options), DirectoryState(state), bool(removed))
            for name, job, options, state, removed, signed in rows
            if is_signed(signed, sign("directory", str(name), str(options)))
        ]

    def _take_directories(self) -> None:
        """Make all directories this account's own."""
        sign = self.signer()
        signed = [
            (sign("directory", str(name), str(options)), name)
            for name, options in self._query("SELECT name, options FROM job_directory")
        ]
        self.db.executemany("UPDATE job_directory SET home = ? WHERE name = ?", signed)

    def settle_directory(self, left: LeftDirectory) -> None:
        """Note that what was to be done with a directory has been done."""
        with self.transaction():
            done = (left.name, left.state)  # it may have been removed meanwhile
            if left.state == DirectoryState.TO_REMOVE:
                self.db.execute("DELETE FROM job_directory WHERE name = ? AND state = ?", done)
            else:
                kept = (DirectoryState.KEPT, *done)
                self.db.execute("UPDATE job_directory SET state = ? WHERE name = ? AND state = ?", kept)

    def _forget_directories(self, request_id: int) -> None:
        """Forget the directories of a request; but not those that are to go."""
        self.db.execute(
            "DELETE FROM job_directory WHERE request = ? AND state != ?", (request_id, DirectoryState.TO_REMOVE)
        )
