"""The store: one SQLite file. Every SQL statement of the project is here.

A task's row id is its request's id times 2**32 plus its index, so tasks and outcomes lie in order, and an outcome is
unique because its id is: a repeated report changes nothing. An outcome is on the disk when the commit returns
(synchronous=FULL). One process, the server, checkpoints the log; before SQLite 3.51.3 two at once could corrupt it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from .client import CHUNK, IN_MEMORY, size_of
from .errors import RequestNotFound, StorageError
from .model import Outcome, Progress, Request, State, StoredBlob

APPLICATION_ID = 0x53484550  # "SHEP", in the file's header
SPAN = 1 << 32  # task indices in a request
OVERHEAD = 64  # bytes of memory for an object, about
SOME = 10_000  # outcomes made at once
MAX_VALUE = 950_000_000  # SQLite holds at most 1,000,000,000 bytes in a row

INSERT_OUTCOME = (
    "INSERT INTO outcome (id, state, attempt, host, seconds, output, stored, value) VALUES (?, ?, ?, ?, ?, ?, ?,"
)
UNLESS_THERE = "ON CONFLICT (id) DO NOTHING"

MIGRATIONS = (
    """
    CREATE TABLE setting (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE request (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL DEFAULT '',
        token TEXT NOT NULL,
        form TEXT NOT NULL DEFAULT '{}',
        options TEXT NOT NULL DEFAULT '{}',
        function BLOB NOT NULL,
        namespace BLOB NOT NULL,
        tasks INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        leased INTEGER NOT NULL DEFAULT 0,
        workers INTEGER NOT NULL DEFAULT 0,
        job TEXT NOT NULL DEFAULT '',
        directory TEXT NOT NULL DEFAULT '',
        note TEXT NOT NULL DEFAULT '',
        created REAL NOT NULL,
        submitted REAL,
        ended REAL
    );
    CREATE INDEX unfinished ON request (id) WHERE done + failed < tasks;
    CREATE TABLE task (id INTEGER PRIMARY KEY, args BLOB NOT NULL);
    CREATE TABLE outcome (
        id INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        host TEXT NOT NULL,
        seconds REAL NOT NULL,
        output BLOB,
        stored REAL NOT NULL,
        value NOT NULL  -- last, or SQLite would build a large one in memory
    );
    """,
)
"""One script a version of the schema, each taking the database from the version before."""


class Storage:
    """Requests, tasks and outcomes in one file. Use it in one thread; other threads and processes open their own.

    Values are bytes and come back as they were. Task indices start at 1. A request or a task that does not exist is
    a RequestNotFound, which is a ValueError.
    """

    def __init__(self, dbfile: str | os.PathLike[str]) -> None:
        self.dbfile = os.path.abspath(os.path.expanduser(dbfile))
        self._opened: sqlite3.Connection | None = None

    # --- the file

    @property
    def db(self) -> sqlite3.Connection:
        """The connection; opened, and the database made, when first needed."""
        if self._opened is None:
            self.initdb()
            assert self._opened is not None
        return self._opened

    def initdb(self) -> None:
        """Create the database, readable by its owner alone, or bring an older one up to date."""
        if self._opened is not None:
            return
        connection = None
        try:
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(self.dbfile, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
                os.fchmod(descriptor, 0o600)  # whatever the umask
                os.close(descriptor)
            connection = sqlite3.connect(self.dbfile, timeout=60, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._migrate(connection)
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StorageError(f"{self.dbfile}: this file system cannot hold the database; choose a local dbfile")
        except (OSError, sqlite3.Error) as error:
            if connection:
                connection.close()
            raise StorageError(self._advice(error)) from error
        except BaseException:
            if connection:
                connection.close()
            raise
        self._opened = connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        def pragma(name: str) -> int:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

        if pragma("user_version") == len(MIGRATIONS) and pragma("application_id") == APPLICATION_ID:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = pragma("user_version")
            empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if pragma("application_id") != APPLICATION_ID and not empty:
                raise StorageError(
                    f"{self.dbfile} is a database of another program (or of Sheepdog 0.2): choose another dbfile"
                )
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.dbfile} was made by a newer Sheepdog (schema {version}; this one knows up to "
                    f"{len(MIGRATIONS)}): upgrade with `pip install --upgrade sheepdog`, or choose another dbfile"
                )
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _advice(self, error: Exception) -> str:
        text = str(error)
        if "not a database" in text:
            return f"{self.dbfile} is not a database: choose another dbfile"
        if "full" in text or getattr(error, "errno", None) == 28:
            return f"{self.dbfile}: the disk is full; make room, or choose a dbfile elsewhere"
        if "readonly" in text or "unable to open" in text or isinstance(error, OSError):
            folder = os.path.dirname(self.dbfile)
            return f"{self.dbfile} cannot be written ({text}): choose a dbfile in a directory that can, not {folder}"
        return f"{self.dbfile}: {text}"

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. What SQLite cannot do is a StorageError that says what to do; within another, this is part
        of that one."""
        if self.db.in_transaction:
            yield
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except BaseException as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StorageError(self._advice(error)) from error
            raise

    def checkpoint_by_itself(self) -> None:
        """From now on, move the log into the database as it grows. The server's business alone."""
        self.db.execute("PRAGMA wal_autocheckpoint = 4000")

    def version(self) -> int:
        """Return a number that changes when another connection has committed something."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def get_setting(self, name: str) -> Any:
        """Return a setting of this database, or None."""
        for (value,) in self._query("SELECT value FROM setting WHERE name = ?", name):
            return value
        return None

    def _query(self, statement: str, *values: Any) -> Iterator[Any]:
        """Yield the rows of a query; what SQLite cannot do is a StorageError."""
        try:
            cursor = self.db.execute(statement, values)
            while (row := cursor.fetchone()) is not None:  # `yield from` would close the cursor when the file is closed
                yield row
        except sqlite3.Error as error:
            raise StorageError(self._advice(error)) from error

    def set_settings(self, **values: Any) -> None:
        """Store settings of this database."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO setting VALUES (?, ?)", values.items())

    def set_settings_once(self, **values: Any) -> None:
        """Store settings that belong together, unless one of them is there."""
        with self.transaction():
            if all(self.get_setting(name) is None for name in values):
                self.set_settings(**values)

    # --- requests

    def new_request(
        self,
        serialised_function: bytes,
        serialised_namespace: bytes,
        args_list: Iterable[bytes],
        *,
        name: str = "",
        form: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> int:
        """Store a request with its tasks, one for each item of args_list, and return its id.

        The items are drawn first, into a temporary file if they are many: however long they take, the database is not
        locked meanwhile, and if one fails nothing has been stored.
        """
        with tempfile.TemporaryFile() as spool:
            waiting: list[bytes] = []
            size = spilled = 0
            for args in args_list:
                waiting.append(args)
                size += len(args) + OVERHEAD
                if size > IN_MEMORY:
                    spool.writelines(part for item in waiting for part in (len(item).to_bytes(8, "big"), item))
                    spilled += len(waiting)
                    waiting, size = [], 0
            count = spilled + len(waiting)
            if count >= SPAN:
                raise ValueError(f"a request of {count} tasks is too large; split it")
            spool.seek(0)
            with self.transaction():
                cursor = self.db.execute(
                    "INSERT INTO request (token, function, namespace, tasks, name, form, options, created, ended)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        secrets.token_hex(32),
                        serialised_function,
                        serialised_namespace,
                        count,
                        name,
                        json.dumps(form or {}),
                        json.dumps(options or {}),
                        time.time(),
                        None if count else time.time(),
                    ),
                )
                request_id = cursor.lastrowid
                assert request_id is not None
                first = request_id * SPAN + 1
                from_spool = (spool.read(int.from_bytes(spool.read(8), "big")) for _ in range(spilled))
                items = itertools.chain(from_spool, waiting)
                self.db.executemany("INSERT INTO task VALUES (?, ?)", enumerate(items, first))
        return request_id

    def remove_request(self, request_id: int) -> None:
        """Remove a request and everything of it."""
        with self.transaction():
            for table in ("task", "outcome"):
                self.db.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", self._rows(request_id))  # noqa: S608
            self.db.execute("DELETE FROM request WHERE id = ?", (request_id,))

    def get_request(self, request_id: int) -> Request:
        """Return a request without its function and tasks."""
        names = [field.name for field in fields(Request)]
        row = dict(zip(names, self._one(request_id, ", ".join(names)), strict=True))
        return Request(**{**row, "form": json.loads(row["form"]), "options": json.loads(row["options"])})

    def unfinished(self, submitted: bool = False) -> list[int]:
        """Return the ids of the requests with tasks that have not ended; of the submitted ones alone, if so asked."""
        statement = "SELECT id FROM request WHERE done + failed < tasks AND (job != '' OR NOT ?) ORDER BY id"
        return [row for (row,) in self._query(statement, submitted)]

    def unsubmitted(self) -> list[tuple[int, tuple[str, int]]]:
        """Return the unfinished requests that have no array job yet, and who makes them: a machine and a process."""
        statement = "SELECT id, options FROM request WHERE done + failed < tasks AND job = ''"
        found = ((row, json.loads(options).get("submitter")) for row, options in self._query(statement))
        return [(row, (submitter[0], submitter[1])) for row, submitter in found if submitter]

    def set_submitted(self, request_id: int, job: str, directory: str, workers: int, urls: Sequence[str]) -> None:
        """Note the array job of a request, and the addresses it calls."""
        with self.transaction():
            self.db.execute(
                "UPDATE request SET job = ?, directory = ?, workers = ?, submitted = ?,"
                " options = json_set(options, '$.urls', json(?)) WHERE id = ?",
                (job, directory, workers, time.time(), json.dumps(list(urls)), request_id),
            )

    def set_leased(self, request_id: int, index: int) -> None:
        """Note the highest index that was ever leased: a server that takes over knows that the rest is free."""
        with self.transaction():
            self.db.execute("UPDATE request SET leased = ? WHERE id = ?", (index, request_id))

    def set_note(self, request_id: int, note: str) -> None:
        """Note what the user of a request should know while it runs."""
        with self.transaction():
            self.db.execute("UPDATE request SET note = ? WHERE id = ? AND note != ?", (note, request_id, note))

    def progress(self, request_id: int) -> Progress:
        """Return how far a request is."""
        return Progress(*self._one(request_id, "tasks, done, failed, note"))

    def function_blobs(self, request_id: int) -> list[bytes | StoredBlob]:
        """Return the serialised function and namespace."""
        lengths = self._one(request_id, "length(function), length(namespace)")
        columns = zip(("function", "namespace"), lengths, strict=True)
        return [self._blob("request", column, request_id, length) for column, length in columns]

    # --- tasks

    def read_tasks(self, request_id: int, indexes: Sequence[int], limit: int) -> list[tuple[int, bytes | StoredBlob]]:
        """Return the arguments of these tasks, in ascending order, until there are more bytes than the limit."""
        found: list[tuple[int, bytes | StoredBlob]] = []
        total = 0
        for start, stop in _runs(sorted(indexes)):
            rows = self.db.execute(
                "SELECT id, length(args), CASE WHEN length(args) <= ? THEN args END FROM task WHERE id BETWEEN ? AND ?",
                (IN_MEMORY, request_id * SPAN + start, request_id * SPAN + stop),
            )
            for row, length, args in rows:
                if found and total + length > limit:
                    return found
                total += length
                found.append((row % SPAN, args if args is not None else StoredBlob("task", "args", row, length)))
        return found

    def pending(self, request_id: int) -> list[tuple[int, int]]:
        """Return the tasks without an outcome, as ranges (first, last)."""
        tasks = self.count_tasks(request_id)
        gaps = []
        expected = 1
        for (row,) in self._query("SELECT id FROM outcome WHERE id BETWEEN ? AND ?", *self._rows(request_id)):
            index = row % SPAN
            if index > expected:
                gaps.append((expected, index - 1))
            expected = index + 1
        if expected <= tasks:
            gaps.append((expected, tasks))
        return gaps

    def store_outcomes(self, request_id: int, outcomes: Sequence[Outcome]) -> int:
        """Store outcomes, all or none; the first one of a task stays. Return how many were new."""
        now = time.time()
        base = request_id * SPAN
        new = {State.DONE: 0, State.FAILED: 0}
        with self.transaction():
            tasks = self.count_tasks(request_id)
            rows: dict[State, list[tuple[Any, ...]]] = {state: [] for state in State}
            for outcome in outcomes:
                if not 1 <= outcome.task <= tasks:
                    raise RequestNotFound(f"request {request_id} has no task {outcome.task}, only 1 to {tasks}")
            for outcome in outcomes:
                if isinstance(outcome.value, (bytes, str)):
                    rows[outcome.state].append(_row(base, outcome, outcome.value, now))
                else:
                    new[outcome.state] += self._store_large(base, outcome, now)
            for state, small in rows.items():
                cursor = self.db.executemany(f"{INSERT_OUTCOME} ?) {UNLESS_THERE}", small)
                new[state] += max(0, cursor.rowcount)
            self.db.execute(
                "UPDATE request SET done = done + ?1, failed = failed + ?2,"
                " ended = CASE WHEN done + failed + ?1 + ?2 >= tasks THEN ?3 END WHERE id = ?4",
                (new[State.DONE], new[State.FAILED], now, request_id),
            )
        return sum(new.values())

    def _store_large(self, base: int, outcome: Outcome, now: float) -> int:
        length = size_of(outcome.value)
        row = _row(base, outcome, length, now)
        cursor = self.db.execute(f"{INSERT_OUTCOME} zeroblob(?)) {UNLESS_THERE}", row)
        if cursor.rowcount > 0:
            outcome.value.seek(0)
            with self.db.blobopen("outcome", "value", row[0]) as blob:
                while chunk := outcome.value.read(CHUNK):
                    blob.write(chunk)
        return max(0, cursor.rowcount)

    def fail_pending(self, request_id: int, error: str) -> int:
        """End every task that has not ended with this error. Return how many there were."""
        value = error.encode("utf-8", "replace")
        count = 0
        with self.transaction():
            for first, last in self.pending(request_id):
                for start in range(first, last + 1, SOME):
                    indexes = range(start, min(start + SOME, last + 1))
                    some = [Outcome(index, State.FAILED, value, attempt=0) for index in indexes]
                    count += self.store_outcomes(request_id, some)
        return count

    def results(self, request_id: int) -> Iterator[tuple[int, bytes]]:
        """Yield (index, serialised result) of the tasks that are done, in order."""
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT id, value FROM outcome WHERE id BETWEEN ? AND ? AND state = 0", *self._rows(request_id)
        )
        return ((row % SPAN, value) for row, value in rows)

    def tasks(self, request_id: int) -> Iterator[tuple[bytes, State | None, Any]]:
        """Yield (serialised arguments, state, value) of every task, in order; both are None if it has not ended."""
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT task.args, outcome.state, outcome.value FROM task LEFT JOIN outcome USING (id)"
            " WHERE id BETWEEN ? AND ? ORDER BY id",
            *self._rows(request_id),
        )
        return ((args, None if state is None else State(state), value) for args, state, value in rows)

    def errors(self, request_id: int) -> Iterator[tuple[bytes, Outcome]]:
        """Yield (serialised arguments, outcome) of the tasks that failed, in order."""
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT args, id, value, attempt, host, seconds, output FROM outcome JOIN task USING (id)"
            " WHERE id BETWEEN ? AND ? AND state = 1",
            *self._rows(request_id),
        )
        return (
            (args, Outcome(row % SPAN, State.FAILED, value, attempt, host, seconds, output or b""))
            for args, row, value, attempt, host, seconds, output in rows
        )

    def chunks(self, blob: StoredBlob) -> Iterator[bytes]:
        """Yield a large blob in pieces."""
        with self.db.blobopen(blob.table, blob.column, blob.row, readonly=True) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    # --- the methods that Sheepdog 0.2 documents

    def get_details(self, request_id: int, job_index: int) -> tuple[bytes, bytes, bytes]:
        """Return (function, namespace, args) of a task, as they were given to new_request."""
        function, namespace = self._one(request_id, "function, namespace")
        [(args,)] = self._query("SELECT args FROM task WHERE id = ?", self._row_id(request_id, job_index))
        return function, namespace, args

    def store_result(self, request_id: int, job_index: int, result: bytes) -> None:
        """Store the result of a task, unless it has ended already."""
        self._row_id(request_id, job_index)
        self.store_outcomes(request_id, [Outcome(job_index, State.DONE, result)])

    def store_error(self, request_id: int, job_index: int, error: bytes | str) -> None:
        """Store the error of a task, unless it has ended already."""
        self._row_id(request_id, job_index)
        self.store_outcomes(request_id, [Outcome(job_index, State.FAILED, error)])

    def count_results(self, request_id: int) -> int:
        """Return how many tasks have a result."""
        return self.progress(request_id).done

    def count_errors(self, request_id: int) -> int:
        """Return how many tasks ended with an error."""
        return self.progress(request_id).failed

    def count_results_and_errors(self, request_id: int) -> int:
        """Return how many tasks have ended."""
        progress = self.progress(request_id)
        return progress.done + progress.failed

    def count_tasks(self, request_id: int) -> int:
        """Return how many tasks the request has."""
        return int(self._one(request_id, "tasks")[0])

    def get_results(self, request_id: int) -> list[tuple[bytes, bytes]]:
        """Return [(args, result)] of the tasks that are done, in order and without gaps."""
        return self._with_outcomes(request_id, "JOIN", State.DONE)

    def get_tasks_with_results(self, request_id: int) -> list[tuple[bytes, bytes | None]]:
        """Return [(args, result)] of all tasks, in order; result is None where there is none."""
        return self._with_outcomes(request_id, "LEFT JOIN", State.DONE)

    def get_errors(self, request_id: int) -> list[tuple[bytes, bytes | str]]:
        """Return [(args, error)] of the tasks that failed, in order."""
        return self._with_outcomes(request_id, "JOIN", State.FAILED)

    def _with_outcomes(self, request_id: int, join: str, state: State) -> list[Any]:
        self.count_tasks(request_id)
        rows = self._query(
            f"SELECT task.args, outcome.value FROM task {join} outcome ON outcome.id = task.id AND state = ?"  # noqa: S608
            " WHERE task.id BETWEEN ? AND ? ORDER BY task.id",
            state,
            *self._rows(request_id),
        )
        return list(rows)

    # --- parts

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
        [(value,)] = self._query(f"SELECT {column} FROM {table} WHERE id = ?", row)  # noqa: S608
        return bytes(value)


def _row(base: int, outcome: Outcome, value: Any, now: float) -> tuple[Any, ...]:
    return (
        base + outcome.task,
        int(outcome.state),
        outcome.attempt,
        outcome.host,
        0.0 if math.isnan(outcome.seconds) else outcome.seconds,
        outcome.output or None,
        now,
        value,
    )


def _runs(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending numbers as ranges (first, last)."""
    start = previous = None
    for index in indexes:
        if start is None or previous is None:
            start = index
        elif index != previous + 1:
            yield start, previous
            start = index
        previous = index
    if start is not None and previous is not None:
        yield start, previous
