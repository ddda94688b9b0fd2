"""Rows: a request's and its tasks', found by their ids, and large values in them, read and written in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..client import CHUNK, IN_MEMORY
from ..errors import RequestNotFound
from ..values.model import StoredBlob
from .file import File
from .schema import SPAN


class Rows(File):
    """The rows that every other room looks for."""

    def count_tasks(self, request_id: int) -> int:
        """Return how many tasks the request has."""
        return int(self._one(request_id, "tasks")[0])

    def _one(self, request_id: int, columns: str) -> Any:
        if isinstance(request_id, int) and 0 < request_id < SPAN // 2:
            for row in self._query(f"SELECT {columns} FROM request WHERE id = ?", request_id):  # noqa: S608
                return row
        raise RequestNotFound(f"there is no request {request_id!r} in {self.dbfile}")

    def _rows(self, request_id: int) -> tuple[int, int]:
        return request_id * SPAN, request_id * SPAN + SPAN - 1

    def _row_id(self, request_id: int, index: int) -> int:
        tasks = self.count_tasks(request_id)
        if not isinstance(index, int) or not 1 <= index <= tasks:
            raise RequestNotFound(f"request {request_id} has no task {index!r}; its tasks are 1 to {tasks}")
        return request_id * SPAN + index

    def _blob(self, table: str, column: str, row: int, length: int) -> bytes | StoredBlob:
        if length > IN_MEMORY:
            return StoredBlob(table, column, row, length)
        [(value,)] = self._query(f"SELECT CAST({column} AS BLOB) FROM {table} WHERE id = ?", row)  # noqa: S608
        return bytes(value)

    def chunks(self, blob: StoredBlob) -> Iterator[bytes]:
        """Yield a large blob in pieces."""
        try:
            file = self.db.blobopen(blob.table, blob.column, blob.row, readonly=True)
        except OverflowError:  # Python 3.11.2 and older
            [(value,)] = self._query(f"SELECT {blob.column} FROM {blob.table} WHERE id = ?", blob.row)  # noqa: S608
            yield from (value[start : start + CHUNK] for start in range(0, blob.length, CHUNK))
            return
        with file:
            while chunk := file.read(CHUNK):
                yield chunk

    def _write(self, table: str, row: int, file: Any) -> None:
        """Write a file over a row's value, which is zeros of its size."""
        file.seek(0)
        try:
            with self.db.blobopen(table, "value", row) as blob:
                while chunk := file.read(CHUNK):
                    blob.write(chunk)
        except OverflowError:  # Python 3.11.2 and older take no row id of more than 31 bits
            self.db.execute(f"UPDATE {table} SET value = ? WHERE rowid = ?", (file.read(), row))  # noqa: S608
