"""The file: it is made, brought up to date, checked and closed here, and written in transactions.

Nothing of it changes before it is known to be the user's own and a database of ours.

A commit is on the disk when it returns (synchronous=FULL). One process, the server, checkpoints the log; before SQLite
3.51.3 two at once could corrupt it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from ..client import MAX_VALUE
from ..errors import DamagedError, StorageBusy, StorageError
from ..values.ownership import belongs, open_own, read_own, require_own
from .identity import Identity
from .mounts import network_file_system
from .schema import migrate, recognise

LOCK = "-server"  # behind the database's name: what the server holds while it lives
SQLITES = ("-wal", "-shm", "-journal")  # ... and what SQLite takes for parts of the database
JOURNAL = bytes.fromhex("d9d505f920a163d7")  # what SQLite's journals begin with, see sqlite.org/fileformat2.html
IDENTITY = "identity"  # the setting
# What SQLite and the system cannot do now, and may do later.
PASSING = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
)
PASSING_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EIO)
PATIENCE = 60.0  # seconds in which others should have done what they lock the database for
MUCH = 1 << 26  # bytes that are given back to the disk when they are free, and half of the file
PAGE = 1 << 14  # bytes: half the processor time of a large value in SQLite's usual 4096, for small ones the same
LOG = 1 << 24  # bytes of the log after which it is moved into the file
CHECKED = 1 << 28  # bytes of a file that is looked through before it is served: a million small tasks have half


class File:
    """The database file with its settings, and the connection to it. Unless make, there must be one."""

    def __init__(self, dbfile: str | os.PathLike[str], *, make: bool = True) -> None:
        self.dbfile = located(dbfile)
        self._make = make
        self._opened: sqlite3.Connection | None = None

    @property
    def db(self) -> sqlite3.Connection:
        """The connection; opened, and the database made if it may be, when first needed."""
        if self._opened is None:
            self.initdb()
            assert self._opened is not None
        return self._opened

    def initdb(self) -> None:
        """Create the database, readable by its owner alone, if it may be; or bring an older one up to date."""
        if self._opened is not None:
            return
        connection = None
        try:
            still = self._is_still()
            self._find(still)
            name = f"{Path(self.dbfile).as_uri()}?mode={'ro&immutable=1' if still else 'rw'}"  # it is there by now
            connection = sqlite3.connect(
                name, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=True
            )
            connection.execute("PRAGMA trusted_schema = OFF")  # what others wrote into the tables' definitions
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA page_size = {PAGE}")  # of a new one
            connection.execute("PRAGMA secure_delete = FAST")  # Debian's writes zeros over all that is deleted
            migrate(connection, self.dbfile, self._begin)
            if not still and log_ahead(connection) != "wal":
                raise StorageError(f"{self.dbfile}: this file system cannot hold the database; choose a local dbfile")
            connection.execute("SELECT count(*) FROM setting").fetchone()  # by now SQLite has opened its own files
            if self._require_own().st_mode & 0o077 and not still:  # a copy, say
                os.chmod(self.dbfile, 0o600)
        except (OSError, sqlite3.Error) as error:
            if connection:
                connection.close()
            raise self._told(error) from error
        except BaseException:
            if connection:
                connection.close()
            raise
        self._opened = connection

    def _is_still(self) -> bool:
        """Tell whether this account can write nothing there: a copy in a snapshot, say, which is read as it is."""
        if not os.path.lexists(self.dbfile) or not self.log_is_empty():
            return False
        if not os.access(self.dbfile, os.W_OK):
            return True
        return not os.access(os.path.dirname(self.dbfile), os.W_OK) and not os.path.lexists(f"{self.dbfile}-wal")

    def _find(self, still: bool) -> None:
        """Make the file, or see that what is there is the user's own, and a database of ours; nothing of it changes."""
        if os.path.isdir(self.dbfile):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.path.lexists(self.dbfile):
            if not self._make:
                raise StorageError(f"there is no database {self.dbfile} any more: it has been removed, or moved")
            if kind := network_file_system(self.dbfile):
                raise StorageError(
                    f"{self.dbfile} would lie on a network file system ({kind}), where SQLite may lose data: choose a "
                    "dbfile on a disk of this machine, with the option dbfile"
                )
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(self.dbfile, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
                os.fchmod(descriptor, 0o600)  # whatever the umask
                os.close(descriptor)
        if self._require_own().st_size and not self._half_made():
            # SQLite must open it: to close a descriptor of our own would end the locks of this process's connections.
            uri = f"{Path(self.dbfile).as_uri()}?mode=ro&immutable=1"  # neither locks it nor plays back another's log
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as look:
                try:
                    recognise(look, self.dbfile)
                except sqlite3.DatabaseError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT or os.path.lexists(
                        f"{self.dbfile}-journal"
                    ):
                        raise
                    # It is SQLite's, and is being written, or lost power in a checkpoint: the log has the rest.
            if not still:
                os.close(open_own(f"{self.dbfile}-wal", os.O_RDONLY | os.O_CREAT))  # before somebody else makes one

    def _require_own(self) -> os.stat_result:
        """Raise NotOwnFile unless the file is the user's own, and so is what SQLite would take for a part of it."""
        for part in SQLITES:
            with contextlib.suppress(FileNotFoundError):
                require_own(self.dbfile + part)
        return require_own(self.dbfile)

    def _half_made(self) -> bool:
        """Tell whether who made the database was killed meanwhile: SQLite takes back what there is of it.

        That leaves an empty file. What was in another one before is looked at as it is.
        """
        try:
            journal = read_own(f"{self.dbfile}-journal")
        except FileNotFoundError:
            return False
        return journal.startswith(JOURNAL) and journal[16:20] == bytes(4)  # the pages that there were before

    def _begin(self, connection: sqlite3.Connection, new: bool) -> None:
        """Give an identity to a database that is made; what is in another may be anybody's."""
        if new:
            identity = Identity.make(self.dbfile)
            connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (IDENTITY, identity.stored()))

    def check(self) -> None:
        """Look for damage, unless that would take long: SQLite reads the whole file."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.dbfile) <= CHECKED:
                found = [text for (text,) in self._query("PRAGMA quick_check(1)")]
                if found != ["ok"]:
                    raise self._damaged(" ".join(found[0].split()))

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
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

    def _query(self, statement: str, *values: Any) -> Iterator[Any]:
        """Yield the rows of a query; what SQLite cannot do is a StorageError."""
        try:
            for row in self.db.execute(statement, values):  # noqa: UP028 (it would close the cursor with the file)
                yield row
        except sqlite3.Error as error:
            raise self._told(error) from error

    def log_is_empty(self) -> bool:
        """Tell whether all that was committed is in the database file itself."""
        try:
            return os.path.getsize(f"{self.dbfile}-wal") == 0
        except FileNotFoundError:
            return True

    def checkpoint(self) -> None:
        """Move all of the log into the database, unless somebody is reading. The server's business alone."""
        if self.log_is_empty():
            return
        [patience] = self.db.execute("PRAGMA busy_timeout").fetchone()
        self.db.execute("PRAGMA busy_timeout = 0")  # who reads is not waited for
        try:
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise self._told(error) from error
        finally:
            self.db.execute(f"PRAGMA busy_timeout = {patience}")

    def shrink(self) -> None:
        """Give room back to the disk, if that is much: it takes writing all the rest anew. What cannot be, is not."""
        names = "page_count", "freelist_count", "page_size"
        pages, free, size = (self.db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        if free * size >= MUCH and 2 * free >= pages:
            with contextlib.suppress(sqlite3.OperationalError):  # the disk is full, or somebody has it locked
                self.db.execute("VACUUM")

    def checkpoint_by_itself(self) -> None:
        """From now on, move the log into the database as it grows. The server's business alone."""
        [size] = self.db.execute("PRAGMA page_size").fetchone()
        self.db.execute(f"PRAGMA wal_autocheckpoint = {LOG // size}")

    def version(self) -> int:
        """Return a number that changes when another connection has committed something."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def get_setting(self, name: str) -> Any:
        """Return a setting of this database, or None."""
        for (value,) in self._query("SELECT value FROM setting WHERE name = ?", name):
            return value
        return None

    def set_settings(self, **values: Any) -> None:
        """Store settings of this database."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO setting VALUES (?, ?)", values.items())

    def set_settings_once(self, **values: Any) -> None:
        """Store settings that belong together, unless one of them is there."""
        with self.transaction():
            if all(self.get_setting(name) is None for name in values):
                self.set_settings(**values)

    def _told(self, error: Exception) -> StorageError:
        """Return an error of the system or of SQLite as ours, which says what to do."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_CORRUPT:
            return self._damaged(str(error))
        passes = code in PASSING or getattr(error, "errno", None) in PASSING_NUMBERS
        return (StorageBusy if passes else StorageError)(self._advice(error))

    def _damaged(self, text: str) -> DamagedError:
        return DamagedError(
            f"{self.dbfile} is damaged ({text}): put a copy in its place, or save what can be read: "
            f"sqlite3 {self.dbfile} .recover | sqlite3 NEW_FILE"
        )

    def _advice(self, error: Exception) -> str:
        text = str(error)
        if "not a database" in text:
            return f"{self.dbfile} is not a database: choose another dbfile"
        if "too big" in text:
            return f"{self.dbfile} cannot hold a value of more than {MAX_VALUE:,} bytes: write it to a file"
        if "full" in text or getattr(error, "errno", None) == 28:
            return f"{self.dbfile}: the disk is full; make room, or choose a dbfile elsewhere"
        if "locked" in text:
            return (
                f"{self.dbfile} has been locked by another program for {PATIENCE:.0f} s ({text}): end that one, "
                f"`fuser -v {self.dbfile}` names it; then try again"
            )
        if "readonly" in text or "unable to open" in text or isinstance(error, OSError):
            folder = os.path.dirname(self.dbfile)
            return f"{self.dbfile} cannot be written ({text}): choose a dbfile in a directory that can, not {folder}"
        with contextlib.suppress(OSError):
            if "I/O" in text and os.stat(self.dbfile).st_nlink > 1:
                return (
                    f"{self.dbfile} has another name, too (a hard link), and cannot be used by both ({text}): use one "
                    "alone, or make a copy with cp"
                )
        return f"{self.dbfile}: {text}"


def log_ahead(connection: sqlite3.Connection) -> str:
    """Let a database have a log; return the mode that it has then. SQLite itself does not wait here for who uses it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


def located(dbfile: str | os.PathLike[str]) -> str:
    """Return the path of a database. A link of the user's own is followed, so that a file has one lock."""
    path = os.path.abspath(os.path.expanduser(dbfile))
    for _ in range(40):  # as the kernel counts
        try:
            leads = os.readlink(path) if belongs(os.lstat(path), path) else ""
        except OSError:  # it is none, or it is not there
            break
        if not leads:
            break
        place, name = os.path.split(os.path.join(os.path.dirname(path), leads))
        path = os.path.join(os.path.realpath(place), name)
    return path
