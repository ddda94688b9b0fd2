"""The schema: the scripts that lead a database of any version to the newest, and the ids of its rows.

A task's row id is its request's id times 2**32 plus its index, so tasks and outcomes lie in order, and an outcome is
unique because its id is.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable

from ..errors import StorageError

APPLICATION_ID = 0x53484550  # "SHEP", in the file's header
SPAN = 1 << 32  # task indices in a request

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
    """
    ALTER TABLE request ADD COLUMN home TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE delivered (
        first INTEGER PRIMARY KEY,  -- of a range of tasks' row ids
        last INTEGER NOT NULL
    );
    """,
    """
    CREATE TABLE job_directory (
        name TEXT PRIMARY KEY,  -- of the array job
        request INTEGER NOT NULL,
        job TEXT NOT NULL,
        options TEXT NOT NULL,
        home TEXT NOT NULL,
        state INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX directory_of ON job_directory (request);
    CREATE INDEX directory_left ON job_directory (state) WHERE state > 1;
    INSERT OR IGNORE INTO job_directory
        SELECT array_job.name, request, job, options, home, state = 3 FROM array_job JOIN request ON id = request;
    """,
    """
    ALTER TABLE delivered RENAME TO ended_range;
    ALTER TABLE ended_range ADD COLUMN kind INTEGER;  -- how all of them ended, NULL if they were delivered
    ALTER TABLE ended_range ADD COLUMN stored REAL;
    ALTER TABLE ended_range ADD COLUMN value BLOB;
    CREATE INDEX ended_together ON ended_range (first) WHERE kind IS NOT NULL;
    """,
)
"""One script a version of the schema, each taking the database from the version before."""


def recognise(connection: sqlite3.Connection, dbfile: str) -> None:
    """Refuse a database that is another program's; nothing is written."""
    if pragma(connection, "application_id") != APPLICATION_ID:
        raise StorageError(f"{dbfile} is a database of another program (or of Sheepdog 0.2): choose another dbfile")


def migrate(connection: sqlite3.Connection, dbfile: str, begin: Callable[[sqlite3.Connection, bool], None]) -> None:
    """Bring a database to the newest schema, all or nothing; an empty one too.

    begin is called in the same transaction, with whether it was empty.
    """
    if pragma(connection, "user_version") == len(MIGRATIONS) and pragma(connection, "application_id") == APPLICATION_ID:
        require_known(connection, dbfile, len(MIGRATIONS))
        return
    try:
        connection.execute("BEGIN IMMEDIATE")  # waits for who writes, as long as the connection's timeout
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"{dbfile} cannot be brought up to date ({error}): another process writes to it; try again, or "
            "stop the server that has it open"
        ) from error
    try:
        version = pragma(connection, "user_version")
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty:
            recognise(connection, dbfile)
        if version > len(MIGRATIONS):
            raise StorageError(
                f"{dbfile} was made by a newer Sheepdog (schema {version}; this one knows up to "
                f"{len(MIGRATIONS)}): upgrade to that one to read it, for all in it is safe, or choose another dbfile"
            )
        require_known(connection, dbfile, version)
        for script in MIGRATIONS[version:]:
            run(connection, script)
        if version < len(MIGRATIONS):  # else another program has done it meanwhile
            begin(connection, empty)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def require_known(connection: sqlite3.Connection, dbfile: str, version: int) -> None:
    """Refuse a database whose tables are not those of its version: it is of a version that never came out, or changed.

    Triggers and views would do more than our statements say. Indexes, and tables of other names, are left alone.
    """
    expected, found = shape(version), columns(connection)
    odd = [name for name, wanted in expected.items() if found.get(name) != wanted]
    odd += [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')")]
    if odd:
        raise StorageError(
            f"{dbfile} is not as this Sheepdog makes its databases (schema {version}, but not in {', '.join(odd)}): it "
            "was made by a version that never came out, or changed by another program. Read it with the one that made "
            "it, or choose another dbfile"
        )


@functools.cache
def shape(version: int) -> dict[str, frozenset[str]]:
    """Return the columns of each table that a version has."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for script in MIGRATIONS[:version]:
            run(connection, script)
        return {name: those for name, those in columns(connection).items() if not name.startswith("sqlite_")}


def columns(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Return the columns of each table that a database has."""
    query = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(query):
        found.setdefault(table, set()).add(column)
    return {table: frozenset(those) for table, those in found.items()}


def run(connection: sqlite3.Connection, script: str) -> None:
    """Run a script statement by statement: executescript would commit first."""
    for statement in script.split(";"):
        connection.execute(statement)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a number of the database."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
