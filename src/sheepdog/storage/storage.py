"""The store: one SQLite file. Every SQL statement of the project is here.

A task's row id is its request's id times 2**32 plus its index, so tasks and outcomes lie in order, and an outcome is
unique because its id is: a repeated report changes nothing. Attempts that ended without ending their task are kept as
its history. What a task reports while it runs is kept; of its checkpoints the latest, until it has a result. A commit
is on the disk when it returns (synchronous=FULL). One process, the server, checkpoints the log; before SQLite 3.51.3
two at once could corrupt it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..client import CHUNK, IN_MEMORY, REPORT, Message, size_of
from ..errors import DamagedError, RequestNotFound, StorageError
from ..values.model import (
    ENDS,
    REQUEST_STATES,
    TASK_STATES,
    ArrayJob,
    Event,
    Kind,
    Outcome,
    Progress,
    Report,
    Request,
    RequestState,
    State,
    StoredBlob,
    WorkerFacts,
    after,
    before,
)
from ..values.ranges import runs_of
from .mounts import network_file_system

APPLICATION_ID = 0x53484550  # "SHEP", in the file's header
SPAN = 1 << 32  # task indices in a request
OVERHEAD = 64  # bytes of memory for an object, about
SOME = 10_000  # outcomes made at once
CHECKED = 1 << 28  # bytes of a file that is looked through before it is served: a million small tasks have half
MAX_VALUE = 950_000_000  # SQLite holds at most 1,000,000,000 bytes in a row

INSERT_OUTCOME = (
    "INSERT INTO outcome (id, kind, attempt, attempts, host, seconds, output, stored, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?,"
)
OUTCOME = "id, kind, value, attempt, host, seconds, output, attempts, signal, status, peak"
MEASURED = "outcome LEFT JOIN measure USING (id)"
UNLESS_THERE = "ON CONFLICT (id) DO NOTHING"  # no state in which a task has ended allows another end: see model.py
WORKER = [field.name for field in fields(WorkerFacts)]
OPEN = f"state IN ({', '.join(str(int(state)) for state in before(REQUEST_STATES, 'end'))})"

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
        state INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        leased INTEGER NOT NULL DEFAULT 0,
        gave_up INTEGER NOT NULL DEFAULT 0,
        fruitless INTEGER NOT NULL DEFAULT 0,
        note TEXT NOT NULL DEFAULT '',
        created REAL NOT NULL,
        submitted REAL,
        ended REAL
    );
    CREATE INDEX not_closed ON request (state) WHERE state < 3;
    CREATE TABLE wave (
        request INTEGER NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        directory TEXT NOT NULL,
        workers INTEGER NOT NULL,
        level INTEGER NOT NULL,
        job TEXT NOT NULL DEFAULT '',
        urls TEXT NOT NULL DEFAULT '[]',
        created REAL NOT NULL,
        ended REAL,
        PRIMARY KEY (request, number)
    ) WITHOUT ROWID;
    CREATE TABLE task (id INTEGER PRIMARY KEY, args BLOB NOT NULL);
    CREATE TABLE outcome (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        host TEXT NOT NULL,
        seconds REAL NOT NULL,
        output BLOB,
        stored REAL NOT NULL,
        value NOT NULL  -- last, or SQLite would build a large one in memory
    );
    CREATE TABLE attempt (
        id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        counts INTEGER NOT NULL,
        host TEXT NOT NULL,
        seconds REAL NOT NULL,
        output BLOB,
        stored REAL NOT NULL,
        value NOT NULL,
        PRIMARY KEY (id, attempt, kind)
    );
    """,
    """
    ALTER TABLE request ADD COLUMN open INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE report (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        task INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        message INTEGER NOT NULL,
        stored REAL NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (task, attempt, message)
    );
    CREATE TABLE checkpoint (
        id INTEGER PRIMARY KEY,
        attempt INTEGER NOT NULL,
        stored REAL NOT NULL,
        value BLOB NOT NULL
    );
    """,
    """
    ALTER TABLE wave RENAME TO array_job;
    CREATE TABLE measure (
        id INTEGER PRIMARY KEY,  -- of the outcome, which keeps its value last
        signal INTEGER NOT NULL,
        status INTEGER,
        peak INTEGER NOT NULL
    );
    ALTER TABLE attempt ADD COLUMN signal INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempt ADD COLUMN status INTEGER;
    ALTER TABLE attempt ADD COLUMN peak INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE worker (
        request INTEGER NOT NULL,
        name TEXT NOT NULL,
        array INTEGER NOT NULL,
        element TEXT NOT NULL,
        host TEXT NOT NULL,
        python TEXT NOT NULL,
        joined REAL NOT NULL,
        heard REAL NOT NULL,
        ended REAL,
        why TEXT NOT NULL,
        task INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        since REAL,
        PRIMARY KEY (request, name)
    ) WITHOUT ROWID;
    CREATE INDEX at_work ON worker (request, host, task) WHERE ended IS NULL;
    CREATE TABLE event (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        request INTEGER NOT NULL,
        at REAL NOT NULL,
        what TEXT NOT NULL,
        task INTEGER,
        worker TEXT NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX event_of ON event (request, number);
    CREATE TABLE file (hash TEXT PRIMARY KEY, size INTEGER NOT NULL, content BLOB NOT NULL);
    CREATE TABLE request_file (
        request INTEGER NOT NULL,
        path TEXT NOT NULL,
        hash TEXT NOT NULL,
        PRIMARY KEY (request, path)
    ) WITHOUT ROWID;
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
            if os.path.exists(self.dbfile) and not (os.path.isfile(self.dbfile) or os.path.isdir(self.dbfile)):
                raise StorageError(f"{self.dbfile} is not a file: choose another dbfile")
            if not os.path.exists(self.dbfile) and (kind := network_file_system(self.dbfile)):
                raise StorageError(
                    f"{self.dbfile} would lie on a network file system ({kind}), where SQLite may lose data: choose a "
                    "dbfile on a disk of this machine, with the option dbfile"
                )
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(self.dbfile, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
                os.fchmod(descriptor, 0o600)  # whatever the umask
                os.close(descriptor)
            found = os.stat(self.dbfile)
            if os.path.isfile(self.dbfile) and found.st_uid == os.getuid() and found.st_mode & 0o077:  # a copy, say
                os.chmod(self.dbfile, 0o600)
            connection = sqlite3.connect(self.dbfile, timeout=60, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._migrate(connection)
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StorageError(f"{self.dbfile}: this file system cannot hold the database; choose a local dbfile")
        except (OSError, sqlite3.Error) as error:
            if connection:
                connection.close()
            raise self._told(error) from error
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
        try:
            connection.execute("BEGIN IMMEDIATE")  # waits for who writes, as long as the connection's timeout
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self.dbfile} cannot be brought up to date ({error}): another process writes to it; try again, or "
                "stop the server that has it open"
            ) from error
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

    def _told(self, error: Exception) -> StorageError:
        """Return an error of the system or of SQLite as ours, which says what to do."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            return self._damaged(str(error))
        return StorageError(self._advice(error))

    def _damaged(self, text: str) -> DamagedError:
        return DamagedError(
            f"{self.dbfile} is damaged ({text}): put a copy in its place, or save what can be read: "
            f"sqlite3 {self.dbfile} .recover | sqlite3 NEW_FILE"
        )

    def check(self) -> None:
        """Look for damage, unless that would take long: SQLite reads the whole file."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.dbfile) <= CHECKED:
                found = [text for (text,) in self._query("PRAGMA quick_check(1)")]
                if found != ["ok"]:
                    raise self._damaged(" ".join(found[0].split()))

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
                raise self._told(error) from error
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
            raise self._told(error) from error

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
        open: bool = False,
    ) -> int:
        """Store a request with its tasks, one for each item of args_list, and return its id.

        If open, more may be added until close_request. The items are drawn first, into a temporary file if they are
        many: however long they take, the database is not locked meanwhile, and if one fails nothing has been stored.
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
                    "INSERT INTO request"
                    " (token, function, namespace, tasks, name, form, options, created, ended, state, open)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        _token(),
                        serialised_function,
                        serialised_namespace,
                        count,
                        name,
                        json.dumps(form or {}),
                        json.dumps(options or {}),
                        time.time(),
                        None if count or open else time.time(),
                        RequestState.NEW if count or open else RequestState.CLOSED,
                        open,
                    ),
                )
                request_id = cursor.lastrowid
                assert request_id is not None
                first = request_id * SPAN + 1
                from_spool = (spool.read(int.from_bytes(spool.read(8), "big")) for _ in range(spilled))
                items = itertools.chain(from_spool, waiting)
                self.db.executemany("INSERT INTO task VALUES (?, ?)", enumerate(items, first))
        return request_id

    def add_tasks(self, request_id: int, args_list: Sequence[bytes]) -> int:
        """Add tasks to an open request. Return the index of the first of them.

        Raises RequestNotFound if it has been closed, or is no more.
        """
        with self.transaction():
            tasks, open, note = self._one(request_id, "tasks, open, note")
            if not open:
                raise RequestNotFound(f"request {request_id} takes no more tasks: {note or 'it has been closed'}")
            first = request_id * SPAN + tasks + 1
            self.db.executemany("INSERT INTO task VALUES (?, ?)", enumerate(args_list, first))
            self.db.execute("UPDATE request SET tasks = tasks + ? WHERE id = ?", (len(args_list), request_id))
        return int(tasks) + 1

    def close_request(self, request_id: int) -> None:
        """Let an open request take no more tasks: it ends with the last that it has."""
        with self.transaction():
            self.db.execute("UPDATE request SET open = 0 WHERE id = ?", (request_id,))
            self._end_if_finished(request_id)

    def _end_if_finished(self, request_id: int) -> None:
        [finished] = self._one(request_id, "done + failed + cancelled >= tasks AND NOT open")
        if finished and self.step(request_id, "end"):
            self.db.execute("UPDATE request SET ended = ? WHERE id = ?", (time.time(), request_id))

    def remove_request(self, request_id: int) -> None:
        """Remove a request and everything of it."""
        with self.transaction():
            for table in ("task", "outcome", "measure", "attempt", "checkpoint"):
                self.db.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", self._rows(request_id))  # noqa: S608
            self.db.execute("DELETE FROM report WHERE task BETWEEN ? AND ?", self._rows(request_id))
            self._remove_files(request_id)
            for table in ("array_job", "worker", "event"):
                self.db.execute(f"DELETE FROM {table} WHERE request = ?", (request_id,))  # noqa: S608
            self.db.execute("DELETE FROM request WHERE id = ?", (request_id,))

    def get_request(self, request_id: int) -> Request:
        """Return a request without its function and tasks."""
        names = [field.name for field in fields(Request)]
        row = dict(zip(names, self._one(request_id, ", ".join(names)), strict=True))
        row.update({key: json.loads(row[key]) for key in ("form", "options")})
        row.update({key: bool(row[key]) for key in ("gave_up", "open")})
        return Request(**{**row, "state": RequestState(row["state"])})

    def requests(self, *states: RequestState) -> list[int]:
        """Return the ids of the requests in these states."""
        wanted = ", ".join(str(int(state)) for state in states)
        return [row for (row,) in self._query(f"SELECT id FROM request WHERE state IN ({wanted}) ORDER BY id")]  # noqa: S608

    def step(self, request_id: int, event: str) -> bool:
        """Let something happen to a request. Return whether it was in a state in which that may happen."""
        sources = ", ".join(str(int(state)) for state in before(REQUEST_STATES, event))
        with self.transaction():
            cursor = self.db.execute(
                f"UPDATE request SET state = ? WHERE id = ? AND state IN ({sources})",  # noqa: S608
                (after(REQUEST_STATES, event), request_id),
            )
            if cursor.rowcount > 0 and event == "end":
                self._end_runs(request_id)
            return cursor.rowcount > 0

    def set_gave_up(self, request_id: int) -> None:
        """Note that a request's workers ended before its tasks."""
        with self.transaction():
            self.db.execute("UPDATE request SET gave_up = 1 WHERE id = ?", (request_id,))

    def set_fruitless(self, request_id: int, count: int) -> None:
        """Note how many submissions of workers in a row were of no use."""
        with self.transaction():
            self.db.execute("UPDATE request SET fruitless = ? WHERE id = ?", (count, request_id))

    # --- the array jobs of a request

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
        return replace(array, number=int(number))

    def set_submitted(self, request_id: int, array: ArrayJob) -> bool:
        """Note that an array job is in the scheduler's hands. Return whether its request still waits for workers."""
        with self.transaction():
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

    def leased(self, request_id: int) -> int:
        """Return the highest index that was ever leased; 0 if none was."""
        return int(self._one(request_id, "leased")[0])

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
        columns = f"tasks, done, failed, cancelled, note, open, {OPEN}"
        tasks, done, failed, cancelled, note, open, unended = self._one(request_id, columns)
        running, workers, hosts = self._at_work(request_id) if unended else (0, 0, ())
        running = min(running, tasks - done - failed - cancelled)  # a worker tells later than its outcome what it runs
        return Progress(tasks, done, failed, cancelled, note, bool(open), running, workers, hosts)

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
        for start, stop in runs_of(sorted(indexes)):
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

    def arguments(self, request_id: int, task: int) -> bytes:
        """Return the serialised arguments of a task."""
        [(args,)] = self._query("SELECT args FROM task WHERE id = ?", self._row_id(request_id, task))
        return bytes(args)

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

    def store_outcomes(self, request_id: int, outcomes: Sequence[Outcome]) -> list[int]:
        """Store outcomes, all or none; the first one of a task stays. Return the tasks that had ended before."""
        now = time.time()
        base = request_id * SPAN
        counts = dict.fromkeys((State.DONE, State.FAILED, State.CANCELLED), 0)
        with self.transaction():
            tasks = self.count_tasks(request_id)
            for outcome in outcomes:
                if not 1 <= outcome.task <= tasks:
                    raise RequestNotFound(f"request {request_id} has no task {outcome.task}, only 1 to {tasks}")
            ended = self._ended(base, sorted({outcome.task for outcome in outcomes}))
            late, again = [], []
            small, measures = [], []
            for outcome in outcomes:
                if outcome.task in ended:
                    late.append(outcome.task)
                    again.append((outcome.attempt, base + outcome.task))
                    continue
                ended.add(outcome.task)
                counts[ENDS.get(outcome.kind, State.FAILED)] += 1
                if isinstance(outcome.value, (bytes, str)):
                    small.append(_row(base, outcome, outcome.value, now))
                else:
                    self._store_large(base, outcome, now)
                if outcome.measured:
                    measures.append((base + outcome.task, outcome.signal, outcome.status, outcome.peak))
            self.db.executemany(f"{INSERT_OUTCOME} ?) {UNLESS_THERE}", small)
            self.db.executemany("INSERT INTO measure VALUES (?, ?, ?, ?)", measures)
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

    def _ended(self, base: int, indexes: Sequence[int]) -> set[int]:
        return set(self.ended_among(base // SPAN, runs_of(indexes)))

    def _store_large(self, base: int, outcome: Outcome, now: float) -> None:
        row = _row(base, outcome, size_of(outcome.value), now)
        self.db.execute(f"{INSERT_OUTCOME} zeroblob(?)) {UNLESS_THERE}", row)
        self._write("outcome", row[0], outcome.value)

    def _write(self, table: str, row: int, file: Any) -> None:
        """Write a file over a row's value, which is zeros of its size."""
        file.seek(0)
        try:
            with self.db.blobopen(table, "value", row) as blob:
                while chunk := file.read(CHUNK):
                    blob.write(chunk)
        except OverflowError:  # Python 3.11.2 and older take no row id of more than 31 bits
            self.db.execute(f"UPDATE {table} SET value = ? WHERE rowid = ?", (file.read(), row))  # noqa: S608

    def end_pending(self, request_id: int, kind: Kind, error: str, tasks: Iterable[int] | None = None) -> int:
        """End every task that has not ended, or only these, with this error. Return how many there were."""
        value = error.encode("utf-8", "replace")
        base, leased, count = request_id * SPAN, self.leased(request_id), 0
        history = "SELECT id, max(attempt) FROM attempt WHERE id BETWEEN ? AND ? GROUP BY id"
        with self.transaction():
            ranges = self.pending(request_id) if tasks is None else self._pending_among(request_id, tasks)
            for first, last in ranges:
                begun = dict(self._query(history, base + first, base + last))
                for start in range(first, last + 1, SOME):
                    outcomes = [
                        Outcome(
                            task=index,
                            kind=kind,
                            value=value,
                            attempt=0,
                            attempts=begun.get(base + index, 0) + (index <= leased),
                        )
                        for index in range(start, min(start + SOME, last + 1))
                    ]
                    self.store_outcomes(request_id, outcomes)
                    count += len(outcomes)
        return count

    def _pending_among(self, request_id: int, tasks: Iterable[int]) -> list[tuple[int, int]]:
        count = self.count_tasks(request_id)
        there = sorted({task for task in tasks if 1 <= task <= count})
        ended = {*self.ended_among(request_id, runs_of(there))}
        return [*runs_of(task for task in there if task not in ended)]

    def outcomes(self, request_id: int, ranges: Iterable[tuple[int, int]]) -> Iterator[Outcome]:
        """Yield how tasks in these ranges (first, last) ended, of those that have."""
        for first, last in ranges:
            rows = self._query(
                f"SELECT {OUTCOME} FROM {MEASURED} WHERE id BETWEEN ? AND ? ORDER BY id",  # noqa: S608
                request_id * SPAN + first,
                request_id * SPAN + last,
            )
            yield from (_outcome(*row) for row in rows)

    def ended_among(self, request_id: int, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """Return the tasks in these ranges (first, last) that have ended."""
        base = request_id * SPAN
        return [
            row - base
            for first, last in ranges
            for (row,) in self._query("SELECT id FROM outcome WHERE id BETWEEN ? AND ?", base + first, base + last)
        ]

    # --- what tasks say while they run

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

    # --- the workers of a request

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
        """Return how many tasks run, how many workers are there, and on which hosts."""
        query = "SELECT host, count(*), sum(task != 0) FROM worker WHERE request = ? AND ended IS NULL GROUP BY host"
        rows = [*self._query(query, request_id)]
        hosts = tuple(host for host, _, _ in rows if host)
        return sum(running for _, _, running in rows), sum(workers for _, workers, _ in rows), hosts

    def _end_runs(self, request_id: int) -> None:
        """Note that no worker of a request runs a task any more."""
        none = "task = 0, attempt = 0, since = NULL"
        self.db.execute(f"UPDATE worker SET {none} WHERE request = ? AND task != 0", (request_id,))  # noqa: S608

    # --- what happened

    def store_events(self, request_id: int, events: Iterable[Event]) -> None:
        """Store what happened. The events get their numbers here."""
        with self.transaction():
            self.count_tasks(request_id)
            self.db.executemany(
                "INSERT INTO event (request, at, what, task, worker, text) VALUES (?, ?, ?, ?, ?, ?)",
                ((request_id, event.at, event.what, event.task, event.worker, event.text) for event in events),
            )

    def events(self, request_id: int, task: int | None = None, after: int = 0) -> Iterator[Event]:
        """Yield what happened to a request, or to one of its tasks, in the order in which it was stored.

        after is the number of an event: only later ones are wanted.
        """
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT at, what, task, worker, text, number FROM event WHERE request = ? AND number > ?"
            " AND (? IS NULL OR task = ?) ORDER BY number",
            *(request_id, after, task, task),
        )
        return (Event(*row) for row in rows)

    # --- files that a request names by what is in them

    def add_file(self, content: bytes) -> str:
        """Store a file, unless it is there, and return its hash. It stays while a request names it."""
        name = hashlib.sha256(content).hexdigest()
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO file VALUES (?, ?, ?)", (name, len(content), content))
        return name

    def file(self, hash: str) -> bytes:
        """Return what is in a file."""
        for (content,) in self._query("SELECT content FROM file WHERE hash = ?", hash):
            return bytes(content)
        raise StorageError(f"there is no file {hash!r} in {self.dbfile}")

    def name_files(self, request_id: int, files: Mapping[str, str]) -> None:
        """Note the files of a request: the hash of each, by the path that it is to have."""
        with self.transaction():
            rows = ((request_id, path, name) for path, name in files.items())
            self.db.executemany("INSERT OR REPLACE INTO request_file VALUES (?, ?, ?)", rows)

    def files_of(self, request_id: int) -> dict[str, str]:
        """Return the files of a request: the hash of each, by its path."""
        return dict(self._query("SELECT path, hash FROM request_file WHERE request = ? ORDER BY path", request_id))

    def _remove_files(self, request_id: int) -> None:
        """Forget which files a request names, and drop those that no other names."""
        named = {*self.files_of(request_id).values()}
        self.db.execute("DELETE FROM request_file WHERE request = ?", (request_id,))
        unnamed = "DELETE FROM file WHERE hash = ? AND hash NOT IN (SELECT hash FROM request_file)"
        self.db.executemany(unnamed, ((name,) for name in named))

    # --- the history: attempts that did not end their task

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
            f"SELECT counts, {OUTCOME.replace('attempts', '0')} FROM attempt WHERE id BETWEEN ? AND ?"  # noqa: S608
            " AND NOT (? AND (attempt = 0 OR id IN (SELECT id FROM outcome))) ORDER BY id, attempt, stored",
            *self._rows(request_id),
            pending,
        )
        return ((_outcome(*row), bool(counts)) for counts, *row in rows)

    def count_retried(self, request_id: int, failed: bool) -> int:
        """Return how many tasks a retry would make pending."""
        return sum(self._retried(request_id, failed).values())

    def retry(self, request_id: int, options: dict[str, Any], failed: bool) -> int:
        """Make tasks of an ended request pending again: those that were never run, and if so asked those that failed.

        Their errors go into the history. The request gets these options and a new token. Return how many tasks there
        are; 0, and nothing is changed, if there are none or the request has not ended.
        """
        where = f"id BETWEEN ? AND ? AND kind IN ({_kinds_to_retry(failed)})"
        with self.transaction():
            rows = self._rows(request_id)
            counts = self._retried(request_id, failed)
            if not sum(counts.values()) or not self.step(request_id, "retry"):
                return 0
            self.db.execute("UPDATE attempt SET counts = 0 WHERE id BETWEEN ? AND ?", rows)
            self.db.execute(
                "INSERT OR REPLACE INTO attempt SELECT id, max(attempt, attempts), kind, 0, host, seconds, output,"  # noqa: S608
                f" stored, value, ifnull(signal, 0), status, ifnull(peak, 0) FROM {MEASURED} WHERE {where}",
                rows,
            )
            self.db.execute(f"DELETE FROM measure WHERE id IN (SELECT id FROM outcome WHERE {where})", rows)  # noqa: S608
            self.db.execute(f"DELETE FROM outcome WHERE {where}", rows)  # noqa: S608
            for table in ("array_job", "worker"):
                ended = f"UPDATE {table} SET ended = ifnull(ended, ?) WHERE request = ?"  # noqa: S608
                self.db.execute(ended, (time.time(), request_id))
            self.db.execute(
                "UPDATE request SET failed = failed - ?, cancelled = cancelled - ?, token = ?, options = ?,"
                " submitted = NULL, ended = NULL, gave_up = 0, fruitless = 0, leased = 0, note = '' WHERE id = ?",
                (counts[State.FAILED], counts[State.CANCELLED], _token(), json.dumps(options), request_id),
            )
        return sum(counts.values())

    def undo_retry(self, request_id: int, options: dict[str, Any]) -> None:
        """Give the tasks of a request that could not be submitted again the errors back that they had, and options."""
        with self.transaction():
            if self.get_request(request_id).state != RequestState.NEW:
                return
            columns = "id, kind, attempt, host, seconds, output, stored, value"
            latest = "rowid IN (SELECT max(rowid) FROM attempt WHERE id BETWEEN ? AND ? GROUP BY id)"
            unended = "id NOT IN (SELECT id FROM outcome)"
            rows = self._rows(request_id)
            counts = dict.fromkeys(State, 0)
            query = f"SELECT kind, count(*) FROM attempt WHERE {latest} AND {unended} GROUP BY kind"  # noqa: S608
            for kind, count in self._query(query, *rows):
                counts[Kind(kind).state] += count
            self.db.execute(
                f"INSERT INTO measure SELECT id, signal, status, peak FROM attempt WHERE {latest} AND {unended}"  # noqa: S608
                " AND (signal OR status IS NOT NULL OR peak)",
                rows,
            )
            self.db.execute(
                f"INSERT INTO outcome (attempts, {columns}) SELECT attempt, {columns} FROM attempt"  # noqa: S608
                f" WHERE {latest} AND {unended}",
                rows,
            )
            self.db.execute(
                f"DELETE FROM attempt WHERE {latest} AND (id, stored) IN (SELECT id, stored FROM outcome)",  # noqa: S608
                rows,
            )
            self.db.execute(
                "UPDATE request SET failed = failed + ?, cancelled = cancelled + ?, options = ?, ended = ?"
                " WHERE id = ?",
                (counts[State.FAILED], counts[State.CANCELLED], json.dumps(options), time.time(), request_id),
            )
            self.step(request_id, "end")

    def _retried(self, request_id: int, failed: bool) -> dict[State, int]:
        """Return how many tasks a retry would make pending, by the states that they are in."""
        counts = dict.fromkeys(State, 0)
        statement = (
            "SELECT kind, count(*) FROM outcome WHERE id BETWEEN ? AND ?"  # noqa: S608
            f" AND kind IN ({_kinds_to_retry(failed)}) GROUP BY kind"
        )
        for kind, count in self._query(statement, *self._rows(request_id)):
            counts[Kind(kind).state] += count
        return counts

    def first_outcomes(self, request_id: int, limit: int) -> list[Outcome]:
        """Return what the first tasks ended with since the request was submitted; one result, if there is any."""
        [since] = self._one(request_id, "ifnull(submitted, created)")
        where = "id BETWEEN ? AND ? AND stored >= ?"
        for (row,) in self._query(
            f"SELECT id FROM outcome WHERE {where} AND kind = 0 LIMIT 1",  # noqa: S608
            *self._rows(request_id),
            since,
        ):
            return [Outcome(task=row % SPAN, kind=Kind.RESULT, value=b"")]
        rows = self._query(
            f"SELECT id, kind, value FROM outcome WHERE {where} ORDER BY stored LIMIT ?",  # noqa: S608
            *self._rows(request_id),
            since,
            limit,
        )
        return [Outcome(task=row % SPAN, kind=Kind(kind), value=value) for row, kind, value in rows]

    # --- what came of it

    def results(self, request_id: int) -> Iterator[tuple[int, bytes]]:
        """Yield (index, serialised result) of the tasks that are done, in order."""
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT id, value FROM outcome WHERE id BETWEEN ? AND ? AND kind = 0", *self._rows(request_id)
        )
        return ((row % SPAN, value) for row, value in rows)

    def tasks(self, request_id: int) -> Iterator[tuple[bytes, Kind | None, Any]]:
        """Yield (serialised arguments, kind, value) of every task, in order; both are None if it has not ended."""
        self.count_tasks(request_id)
        rows = self._query(
            "SELECT task.args, outcome.kind, outcome.value FROM task LEFT JOIN outcome USING (id)"
            " WHERE id BETWEEN ? AND ? ORDER BY id",
            *self._rows(request_id),
        )
        return ((args, None if kind is None else Kind(kind), value) for args, kind, value in rows)

    def errors(self, request_id: int) -> Iterator[tuple[bytes, Outcome]]:
        """Yield (serialised arguments, outcome) of the tasks that ended without a result, in order."""
        self.count_tasks(request_id)
        rows = self._query(
            f"SELECT args, {OUTCOME} FROM {MEASURED} JOIN task USING (id) WHERE id BETWEEN ? AND ? AND kind != 0",  # noqa: S608
            *self._rows(request_id),
        )
        return ((args, _outcome(*row)) for args, *row in rows)

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

    # --- the methods that Sheepdog 0.2 documents

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

    def count_tasks(self, request_id: int) -> int:
        """Return how many tasks the request has."""
        return int(self._one(request_id, "tasks")[0])

    def get_results(self, request_id: int) -> list[tuple[bytes, bytes]]:
        """Return [(args, result)] of the tasks that are done, in order and without gaps."""
        return self._with_outcomes(request_id, "JOIN", "=")

    def get_tasks_with_results(self, request_id: int) -> list[tuple[bytes, bytes | None]]:
        """Return [(args, result)] of all tasks, in order; result is None where there is none."""
        return self._with_outcomes(request_id, "LEFT JOIN", "=")

    def get_errors(self, request_id: int) -> list[tuple[bytes, bytes | str]]:
        """Return [(args, error)] of the tasks that failed, in order."""
        return self._with_outcomes(request_id, "JOIN", "!=")

    def _with_outcomes(self, request_id: int, join: str, compare: str) -> list[Any]:
        self.count_tasks(request_id)
        rows = self._query(
            f"SELECT task.args, outcome.value FROM task {join} outcome ON outcome.id = task.id AND kind {compare} 0"  # noqa: S608
            " WHERE task.id BETWEEN ? AND ? ORDER BY task.id",
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


def _token() -> str:
    return secrets.token_hex(32)


def _kinds_to_retry(failed: bool) -> str:
    again = [kind for kind in Kind if kind.state in before(TASK_STATES, "retry")]
    return ", ".join(str(int(kind)) for kind in again if failed or kind in (Kind.NOT_RUN, Kind.CANCELLED))


def _outcome(
    row: int,
    kind: int,
    value: Any,
    attempt: int,
    host: str,
    seconds: float,
    output: bytes | None,
    attempts: int,
    signal: int | None,
    status: int | None,
    peak: int | None,
) -> Outcome:
    """Return an outcome from its columns, which are those of OUTCOME."""
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


def _row(base: int, outcome: Outcome, value: Any, now: float) -> tuple[Any, ...]:
    return (
        base + outcome.task,
        int(outcome.kind),
        outcome.attempt,
        max(outcome.attempt, outcome.attempts),
        outcome.host,
        0.0 if math.isnan(outcome.seconds) else outcome.seconds,
        outcome.output or None,
        now,
        value,
    )
