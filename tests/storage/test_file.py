"""The file: who may read it, what is no database, and what becomes of it when something fails."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.errors import StorageBusy, StorageError
from sheepdog.storage import Storage
from sheepdog.storage.file import LOG, PAGE
from sheepdog.storage.schema import APPLICATION_ID, MIGRATIONS, run
from tests.faults import fault
from tests.storage.samples import python, request_of, unfinished


def test_another_connection_sees_what_was_committed_and_that_it_was(storage: Storage) -> None:
    request = request_of(storage, 1)
    with Storage(storage.dbfile) as other:
        before = other.version()
        assert other.version() == before
        storage.store_result(request, 1, b"x")
        assert other.version() != before
        assert other.get_results(request) == [(b"args 1", b"x")]


def test_a_file_that_is_not_there_is_made_only_if_it_may_be(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(StorageError, match=r"there is no database .*db any more: it has been removed, or moved"):
            Storage(tmp_path / "db", make=False).initdb()
        assert list(tmp_path.iterdir()) == []
    Storage(tmp_path / "db").initdb()
    with Storage(tmp_path / "db", make=False) as storage:
        storage.set_settings(port=1)


def test_a_transaction_is_all_or_nothing(storage: Storage) -> None:
    request = request_of(storage, 2)

    def fail() -> None:
        with storage.transaction():
            storage.store_result(request, 1, b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert storage.count_results(request) == 0
    assert storage.get_results(request) == []


def test_large_values_lie_in_large_pages(storage: Storage) -> None:
    """And whatever the size of its pages, the log is moved into the file when it has as many bytes."""
    storage.checkpoint_by_itself()
    size, pages = (storage.db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "wal_autocheckpoint"))
    assert (size, size * pages) == (PAGE, LOG)


@pytest.mark.slow
def test_a_database_of_smaller_pages_goes_on_as_it_is(tmp_path: Path) -> None:
    """Its log is no longer than another's."""
    file = tmp_path / "db"
    with contextlib.closing(sqlite3.connect(file)) as older:
        older.execute("PRAGMA page_size = 512")
        run(older, MIGRATIONS[0])
        older.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        older.execute("PRAGMA user_version = 1")
    with Storage(file) as storage:
        storage.checkpoint_by_itself()
        assert storage.db.execute("PRAGMA page_size").fetchone() == (512,)
        request = request_of(storage, 40)
        for task in range(1, 41):
            storage.store_result(request, task, bytes(1 << 20))
        assert os.path.getsize(f"{file}-wal") < 2 * LOG


def test_what_is_deleted_is_not_written_once_more(storage: Storage) -> None:
    """Some systems have a SQLite that writes zeros over it, unless told otherwise."""
    request = request_of(storage, 1)
    storage.store_result(request, 1, bytes(1 << 20))
    storage.checkpoint()
    storage.discard(request, [(1, 1)])
    assert os.path.getsize(f"{storage.dbfile}-wal") < 1 << 18


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_the_file_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        with Storage(tmp_path / "db") as storage:
            request_of(storage, 1)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(["db", "db-shm", "db-wal"], 0o600)


@fault(16, "a file whose header is no database's", promise="it is refused and left alone")
def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("It is a truth universally acknowledged\n" * 100)
    before = file.read_bytes()
    with pytest.raises(StorageError, match=r"thesis\.txt is not a database"):
        Storage(file).initdb()
    assert file.read_bytes() == before


MAKE = """
import sys
from pathlib import Path
from sheepdog.errors import StorageError
from sheepdog.storage import Storage
lines = Path("/proc/self/mountinfo").read_text() + f"1 1 0:1 / {sys.argv[1]} rw - {sys.argv[2]} server:/home rw\\n"
read = Path.read_text
Path.read_text = lambda path, **options: lines if str(path) == "/proc/self/mountinfo" else read(path, **options)
try:
    Storage(sys.argv[1] + "/sheepdog.sqlite").initdb()
except StorageError as error:
    print(error)
"""


@fault(17, "the database would lie on a network file system", promise="refused, with the reason, before it is made")
@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    """The list of mounts is made up: to mount one takes a server."""
    done = python(MAKE, tmp_path, kind)
    assert done.stderr == ""
    assert done.stdout == (
        f"{tmp_path}/sheepdog.sqlite would lie on a network file system ({kind}), where SQLite may lose data: "
        "choose a dbfile on a disk of this machine, with the option dbfile\n"
    )
    assert not (tmp_path / "sheepdog.sqlite").exists()
    assert python(MAKE, tmp_path, "ext4").stdout == ""
    assert (tmp_path / "sheepdog.sqlite").exists()


@pytest.mark.parametrize("path", ["/proc/db", "/nonexistent/db", "/dev/null/db", "/proc"])
def test_where_no_file_can_be_made(path: str) -> None:
    with pytest.raises(StorageError, match=f"{path} cannot be written .* choose a dbfile"):
        Storage(path).initdb()


def test_what_is_not_a_file_is_left_alone(tmp_path: Path) -> None:
    """Nor is its mode changed: /dev/null would be of no more use to anybody."""
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o644)
    with pytest.raises(StorageError, match="pipe is not a file: choose another"):
        Storage(path).initdb()
    assert path.stat().st_mode & 0o777 == 0o644
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(0o755)
    with pytest.raises(StorageError):
        Storage(directory).initdb()
    assert directory.stat().st_mode & 0o777 == 0o755


@fault(16, "a database with overwritten pages", promise="an error that names the file; no wrong result")
def test_a_damaged_database_is_a_storage_error_whatever_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "db"
    with Storage(file) as storage:
        request = storage.new_request(b"f", b"", [b"x" * 1000] * 1000)
        storage.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(file, "r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * (file.stat().st_size - 4096))
    with Storage(file) as storage, pytest.raises(StorageError, match="db"):
        storage.get_results(request)


FILL = """
import sys
from sheepdog.errors import StorageError
from sheepdog.storage import Storage
storage = Storage(sys.argv[1])
request = storage.new_request(b"f", b"", [b"x"] * 100)
try:
    for index in range(1, 101):
        storage.store_result(request, index, b"r" * 100_000)
except StorageError as error:
    print(error)
print(storage.count_results(request) == len(storage.get_results(request)) > 0)
"""


@fault(
    (15, "disk full"),
    "the disk is full in the midst of storing",
    promise="an error that says so; what was stored before is whole",
)
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"]).returncode != 0,
    reason="needs a file system of its own",
)
def test_a_full_disk(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=2m none {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", FILL, str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{tmp_path}/db: the disk is full; make room, or choose a dbfile elsewhere",
        "True",
    ]


@pytest.mark.parametrize(
    ("number", "passes"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_TOOBIG, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_ERROR, False),
        (sqlite3.SQLITE_CORRUPT, False),
    ],
)
def test_what_passes_is_told_from_what_does_not(storage: Storage, number: int, passes: bool) -> None:
    error = sqlite3.OperationalError("so")
    error.sqlite_errorcode = number
    with pytest.raises(StorageError) as caught, storage.transaction():
        raise error
    assert isinstance(caught.value, StorageBusy) == passes


def test_a_value_that_is_too_large(storage: Storage) -> None:
    storage.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
    with pytest.raises(StorageError, match="cannot hold a value of more than 950,000,000 bytes") as caught:
        storage.new_request(b"f", b"", [bytes(1001)])
    assert not isinstance(caught.value, StorageBusy)


def test_a_lock_that_lasts(storage: Storage) -> None:
    request_of(storage, 1)
    storage.db.execute("PRAGMA busy_timeout = 0")
    with Storage(storage.dbfile) as other, other.transaction(), pytest.raises(StorageBusy, match="locked"):
        storage.set_settings(a=1)


WRITE = """
import sys
from sheepdog.storage import Storage
sys.stdin.readline()
for _ in range(25):
    with Storage(sys.argv[1]) as storage:
        request = storage.new_request(b"f", b"", [b"1", b"2"])
        storage.store_result(request, 1, b"%d" % request)
"""


@fault(
    ("two clients", "database locked"),
    "processes that write one database at once",
    promise="each waits for its turn; all is stored",
)
@pytest.mark.slow
def test_processes_that_make_and_write_one_database_at_once(tmp_path: Path) -> None:
    file = tmp_path / "db"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, file], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for writer in writers:  # all are waiting for this word when the first gets it, or nearly
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
    with Storage(file) as storage:
        assert unfinished(storage) == list(range(1, 101))
        assert all(storage.get_results(id) == [(b"1", b"%d" % id)] for id in range(1, 101))


@fault(
    (1, "power loss"), "kill -9 in the midst of a transaction", promise="what was committed is there, and nothing else"
)
def test_a_process_that_is_killed_in_the_midst_of_writing_leaves_what_it_had_committed(tmp_path: Path) -> None:
    script = """
import os, sys
from sheepdog.storage import Storage
storage = Storage(sys.argv[1])
request = storage.new_request(b"f", b"", [b"1", b"2"])
storage.store_result(request, 1, b"r")
with storage.transaction():
    storage.store_result(request, 2, b"r")
    os.kill(os.getpid(), 9)
"""
    assert python(script, tmp_path / "db").returncode == -9
    with Storage(tmp_path / "db") as storage:
        assert storage.get_tasks_with_results(1) == [(b"1", b"r"), (b"2", None)]
        assert storage.count_results(1) == 1


@fault(
    ("two clients", "database locked"),
    "a database is opened while another program makes it",
    promise="it is waited for",
)
def test_a_log_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Storage(tmp_path / "db") as storage:
        storage.initdb()
    with contextlib.closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
        assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)  # as while it is made
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO setting VALUES ('port', 1)")
        slept = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr("time.sleep", sleep)
        with Storage(tmp_path / "db") as storage:
            assert storage.get_setting("port") == 1
        assert len(slept) == 1


def test_who_waited_for_a_lock_in_vain_hears_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.storage.file.PATIENCE", 0.1)
    with Storage(tmp_path / "db") as storage:
        storage.initdb()
        with contextlib.closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageBusy, match=r"has been locked by another program for .*fuser -v .*try again"):
                request_of(storage, 1)


def test_a_database_that_grows_can_be_opened_at_any_moment(tmp_path: Path) -> None:
    """Pages move from the log into the file one by one; who looks without locks sees some of them."""
    script = """
import sys
from sheepdog.storage import Storage
for _ in range(150):
    with Storage(sys.argv[1]) as storage:
        assert storage.get_setting("port") is None
"""
    with Storage(tmp_path / "db") as storage:
        storage.initdb()
        opener = subprocess.Popen([sys.executable, "-c", script, storage.dbfile], stderr=subprocess.PIPE, text=True)
        while opener.poll() is None:
            storage.new_request(b"f" * 100_000, b"", [b"x" * 5000] * 50)
            storage.checkpoint()
        assert opener.communicate()[1] == ""


@fault(
    "power loss",
    "the power fails in the midst of a checkpoint: the first page is there, and not those that it tells of",
    promise="the log has them: all that was committed is there",
)
def test_half_of_a_checkpoint(tmp_path: Path) -> None:
    file, log = tmp_path / "db", tmp_path / "db-wal"
    with Storage(file) as storage:
        request = storage.new_request(b"f", b"", [b"x" * 1000] * 100)
        before, written = file.read_bytes(), log.read_bytes()
        storage.checkpoint()
        after = file.read_bytes()
    assert len(after) > len(before)
    file.write_bytes(after[:4096] + before[4096:])
    log.write_bytes(written)
    with Storage(file) as storage:
        assert storage.count_tasks(request) == 100
        storage.check()


HOT = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "before":
    db.execute("CREATE TABLE request (id)")
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN")
if sys.argv[2] == "anew":
    db.execute("CREATE TABLE setting (id)")
else:
    db.execute("CREATE TABLE another (id)")
db.executemany("INSERT INTO another VALUES (?)" if sys.argv[2] == "before" else "INSERT INTO setting VALUES (?)",
    [("x" * 200,)] * 3000)
os._exit(9)
"""


@fault(16, "another program's database, whose last transaction was cut off", promise="it is refused and left alone")
def test_another_program_s_journal_is_not_played_back(tmp_path: Path) -> None:
    python(HOT, tmp_path / "db", "before")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"db", "db-journal"}
    with (
        pytest.raises(StorageError, match=r"db is a database of another program|malformed"),
        Storage(tmp_path / "db") as it,
    ):
        it.requests()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_was_cut_off_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    python(HOT, tmp_path / "db", "anew")
    assert (tmp_path / "db-journal").exists()
    with Storage(tmp_path / "db") as storage:
        assert request_of(storage, 1) == 1
