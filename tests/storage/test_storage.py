"""The store: what each method promises, and what becomes of files that are no store."""

import io
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheepdog.errors import RequestNotFound, StorageError
from sheepdog.storage import Storage
from sheepdog.storage import storage as storage_module
from sheepdog.values.model import ArrayJob, Kind, Outcome, Progress, RequestState, State, StoredBlob
from tests.faults import fault
from tests.storage.samples import request_of

LARGE = 20_000_000


def unfinished(storage: Storage) -> list[int]:
    return storage.requests(RequestState.NEW, RequestState.SUBMITTED)


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)


# What goes in comes out


def test_the_details_of_a_task_are_those_of_the_request(storage: Storage) -> None:
    request = storage.new_request(b"function", b"namespace", [b"one", b"two"])
    assert storage.get_details(request, 1) == (b"function", b"namespace", b"one")
    assert storage.get_details(request, 2) == (b"function", b"namespace", b"two")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(function=st.binary(), namespace=st.binary(), args=st.lists(st.binary(max_size=9), min_size=1), data=st.data())
def test_any_bytes_come_back_as_they_were(
    storage: Storage, function: bytes, namespace: bytes, args: list[bytes], data: st.DataObject
) -> None:
    request = storage.new_request(function, namespace, args)
    assert [storage.get_details(request, index) for index in range(1, len(args) + 1)] == [
        (function, namespace, each) for each in args
    ]
    values = data.draw(st.lists(st.binary(), min_size=len(args), max_size=len(args)))
    kinds = data.draw(st.lists(st.sampled_from(Kind), min_size=len(args), max_size=len(args)))
    outcomes = [
        Outcome(task=index, kind=kind, value=value)
        for index, (kind, value) in enumerate(zip(kinds, values, strict=True), 1)
    ]
    assert storage.store_outcomes(request, outcomes) == []
    ended = list(zip(args, values, kinds, strict=True))
    assert storage.get_results(request) == [(a, v) for a, v, kind in ended if kind == Kind.RESULT]
    assert storage.get_errors(request) == [(a, v) for a, v, kind in ended if kind != Kind.RESULT]
    assert list(storage.tasks(request)) == [(a, kind, v) for a, v, kind in ended]
    count = {state: sum(1 for kind in kinds if kind.state == state) for state in State}
    progress = storage.progress(request)
    assert (progress.done, progress.failed) == (count[State.DONE], count[State.FAILED])
    assert progress.cancelled == count[State.CANCELLED]


def test_results_come_in_order_with_gaps_or_without(storage: Storage) -> None:
    request = request_of(storage, 4)
    storage.store_result(request, 3, b"three")
    storage.store_result(request, 1, b"one")
    storage.store_error(request, 2, b"broken")
    assert storage.get_results(request) == [(b"args 1", b"one"), (b"args 3", b"three")]
    assert storage.get_tasks_with_results(request) == [
        (b"args 1", b"one"),
        (b"args 2", None),
        (b"args 3", b"three"),
        (b"args 4", None),
    ]
    assert storage.get_errors(request) == [(b"args 2", b"broken")]
    assert list(storage.results(request)) == [(1, b"one"), (3, b"three")]
    assert storage.pending(request) == [(4, 4)]


def test_counts(storage: Storage) -> None:
    request = request_of(storage, 5)
    storage.store_result(request, 1, b"")
    storage.store_result(request, 2, b"")
    storage.store_error(request, 5, "an error may be text")
    assert storage.count_results(request) == 2
    assert storage.count_errors(request) == 1
    assert storage.count_results_and_errors(request) == 3
    assert storage.count_tasks(request) == 5
    assert storage.progress(request) == Progress(5, 2, 1)


@fault(12, "a second outcome of a task", promise="the first stays as it is")
def test_a_second_outcome_of_a_task_changes_nothing(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_result(request, 1, b"first")
    storage.store_result(request, 1, b"second")
    storage.store_error(request, 1, b"third")
    both = [
        Outcome(task=2, kind=Kind.RAISED, value=b"e"),
        Outcome(task=2, kind=Kind.RESULT, value=b"r"),
        Outcome(task=2, kind=Kind.DIED, value=io.BytesIO(b"x")),
    ]
    assert storage.store_outcomes(request, both) == [2, 2]
    assert storage.store_outcomes(request, both) == [2, 2, 2]
    assert storage.get_results(request) == [(b"args 1", b"first")]
    assert storage.count_results_and_errors(request) == 2
    assert unfinished(storage) == []


def test_requests_do_not_mix(storage: Storage) -> None:
    first, second = request_of(storage, 2), request_of(storage, 3)
    storage.store_result(first, 2, b"of the first")
    storage.store_result(second, 1, b"of the second")
    assert storage.get_results(first) == [(b"args 2", b"of the first")]
    assert storage.get_results(second) == [(b"args 1", b"of the second")]
    storage.remove_request(first)
    with pytest.raises(RequestNotFound):
        storage.count_tasks(first)
    assert storage.count_tasks(second) == 3
    assert storage.get_results(second) == [(b"args 1", b"of the second")]
    assert request_of(storage, 1) > second  # an id is never used again


METHODS_OF_REQUESTS = [
    "get_results",
    "get_tasks_with_results",
    "get_errors",
    "count_results",
    "count_errors",
    "count_results_and_errors",
    "count_tasks",
    "get_request",
    "progress",
    "function_blobs",
    "pending",
    "results",
    "tasks",
    "errors",
    "attempts",
]


@pytest.mark.parametrize("unknown", [0, -1, 4711, 2**31, 2**40, 2**63, "1x", None])
def test_an_unknown_request_is_a_value_error(storage: Storage, unknown: int) -> None:
    request_of(storage, 1)
    for method in METHODS_OF_REQUESTS:
        with pytest.raises(ValueError, match="there is no request"):
            list(getattr(storage, method)(unknown))


@pytest.mark.parametrize("unknown", [0, -1, 3, 2**32, 2**32 + 1, 2**70])
def test_an_unknown_task_is_a_value_error(storage: Storage, unknown: int) -> None:
    request_of(storage, 9)
    request = request_of(storage, 2)
    with pytest.raises(ValueError, match="has no task"):
        storage.get_details(request, unknown)
    for store in (storage.store_result, storage.store_error):
        with pytest.raises(ValueError, match="has no task"):
            store(request, unknown, b"x")
        with pytest.raises(ValueError, match="there is no request"):
            store(4711, 1, b"x")
    assert storage.count_results_and_errors(request) == 0


@fault(13, "outcomes of which one cannot be stored", promise="all of a call are stored, or none")
@pytest.mark.parametrize("value", [b"small", b"large" * 3_000_000], ids=["small", "large"])
def test_outcomes_are_stored_all_or_none(storage: Storage, value: bytes) -> None:
    request = request_of(storage, 2)
    with storage.transaction(), pytest.raises(RequestNotFound):  # as when the server goes on with others' calls
        storage.store_outcomes(
            request,
            [
                Outcome(task=1, kind=Kind.RESULT, value=io.BytesIO(value)),
                Outcome(task=3, kind=Kind.RESULT, value=b"of no task"),
            ],
        )
    assert storage.count_results(request) == len(storage.get_results(request)) == 0
    assert storage.pending(request) == [(1, 2)]


def test_a_run_time_that_is_no_number_loses_no_outcome(storage: Storage) -> None:
    request = request_of(storage, 1)
    storage.store_outcomes(request, [Outcome(task=1, kind=Kind.RESULT, value=b"x", seconds=float("nan"))])
    assert storage.get_results(request) == [(b"args 1", b"x")]


# Large values


def test_large_values_go_through_files(storage: Storage) -> None:
    value = os.urandom(LARGE)
    request = storage.new_request(b"f" * LARGE, b"", [value])
    function, namespace = storage.function_blobs(request)
    assert isinstance(function, StoredBlob)
    assert b"".join(storage.chunks(function)) == b"f" * LARGE
    assert namespace == b""
    [(index, blob)] = storage.read_tasks(request, [1], limit=1)
    assert (index, blob.length) == (1, LARGE)
    assert b"".join(storage.chunks(blob)) == value
    with tempfile.TemporaryFile() as file:
        file.write(value)
        assert storage.store_outcomes(request, [Outcome(task=1, kind=Kind.RESULT, value=file)]) == []
    assert storage.get_results(request) == [(value, value)]


def test_tasks_are_read_until_there_are_enough_bytes(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"x" * 10] * 9)

    def read(indexes: list[int], limit: int) -> list[int]:
        return [index for index, _ in storage.read_tasks(request, indexes, limit)]

    assert read([7, 1, 2, 8], 100) == [1, 2, 7, 8]
    assert read([7, 1, 2, 8], 30) == [1, 2, 7]
    assert read([7, 1], 5) == [1]  # one at least
    assert read([], 5) == []


# A request


def test_args_that_raise_leave_nothing(storage: Storage) -> None:
    def args() -> Iterator[bytes]:
        yield b"one"
        raise KeyError("two")

    with pytest.raises(KeyError):
        storage.new_request(b"f", b"", args())
    assert unfinished(storage) == []
    assert request_of(storage, 1) == 1


def test_others_can_write_while_args_are_drawn(storage: Storage) -> None:
    def args() -> Iterator[bytes]:
        with Storage(storage.dbfile) as other:
            other.set_settings(drawn=1)
        yield b"one"

    storage.new_request(b"f", b"", args())
    assert storage.get_setting("drawn") == 1


def test_a_request_without_tasks_has_ended(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [])
    assert storage.progress(request).finished
    assert unfinished(storage) == []
    assert storage.pending(request) == []
    assert storage.get_tasks_with_results(request) == []


def test_what_is_known_of_a_request(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"1", b"2"], name="n", form={"magic": "x"}, options={"lease": 3.0})
    stored = storage.get_request(request)
    assert (stored.name, stored.form, stored.tasks) == ("n", {"magic": "x"}, 2)
    assert (stored.state, stored.submitted, stored.leased, stored.gave_up) == (RequestState.NEW, None, 0, False)
    storage.set_leased(request, 2)
    storage.set_gave_up(request)
    storage.set_fruitless(request, 3)
    stored = storage.get_request(request)
    assert (stored.leased, stored.gave_up, stored.fruitless, stored.options) == (2, True, 3, {"lease": 3.0})
    other = storage.get_request(request_of(storage, 1))
    assert len(stored.token) == 64
    assert stored.token != other.token


def test_the_note_is_part_of_the_progress(storage: Storage) -> None:
    request = request_of(storage, 1)
    storage.set_note(request, "none has called")
    assert storage.progress(request).note == "none has called"
    storage.set_note(request, "")
    assert storage.progress(request).note == ""


def test_pending_tasks_are_ranges_and_can_be_ended_together(storage: Storage) -> None:
    request = request_of(storage, 9)
    for index in (1, 4, 5, 8):
        storage.store_result(request, index, b"r")
    assert storage.pending(request) == [(2, 3), (6, 7), (9, 9)]
    assert storage.end_pending(request, Kind.NOT_RUN, "the job is gone") == 5
    assert storage.pending(request) == []
    assert [outcome.task for _, outcome in storage.errors(request)] == [2, 3, 6, 7, 9]
    assert {outcome.value for _, outcome in storage.errors(request)} == {b"the job is gone"}
    assert storage.end_pending(request, Kind.NOT_RUN, "again") == 0


def test_an_error_keeps_what_is_known_of_it(storage: Storage) -> None:
    request = request_of(storage, 1)
    outcome = Outcome(
        task=1, kind=Kind.RAISED, value=b"why", attempt=3, host="node", seconds=2.5, output=b"said", attempts=4
    )
    storage.store_outcomes(request, [outcome])
    assert list(storage.errors(request)) == [(b"args 1", outcome)]


def test_another_connection_sees_what_was_committed_and_that_it_was(storage: Storage) -> None:
    request = request_of(storage, 1)
    with Storage(storage.dbfile) as other:
        before = other.version()
        assert other.version() == before
        storage.store_result(request, 1, b"x")
        assert other.version() != before
        assert other.get_results(request) == [(b"args 1", b"x")]


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


# The file


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


@fault(54, "a database of a newer version", promise="it is refused with what to do, and left alone")
def test_a_newer_schema_is_refused(storage: Storage) -> None:
    storage.db.execute(f"PRAGMA user_version = {len(storage_module.MIGRATIONS) + 1}")
    storage.close()
    before = Path(storage.dbfile).read_bytes()
    with pytest.raises(StorageError, match=r"was made by a newer Sheepdog.*upgrade"):
        storage.initdb()
    assert Path(storage.dbfile).read_bytes() == before


@fault(54, "a database of an older version", promise="it is brought up to date, and nothing in it is lost")
def test_an_older_schema_is_brought_up_to_date(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(storage, 2)
    storage.store_result(request, 1, b"r")
    storage.close()
    script = "CREATE TABLE later (x); INSERT INTO later SELECT value FROM outcome"
    monkeypatch.setattr(storage_module, "MIGRATIONS", (*storage_module.MIGRATIONS, script))
    assert storage.db.execute("SELECT x FROM later").fetchall() == [(b"r",)]
    assert storage.get_tasks_with_results(request) == [(b"args 1", b"r"), (b"args 2", None)]


@fault(54, "bringing an older database up to date fails halfway", promise="an error; the database stays as it was")
def test_a_step_to_a_newer_schema_is_all_or_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(storage, 1)
    storage.close()
    script = "CREATE TABLE later (x); INSERT INTO nosuch VALUES (1)"
    with monkeypatch.context() as newer:
        newer.setattr(storage_module, "MIGRATIONS", (*storage_module.MIGRATIONS, script))
        with pytest.raises(StorageError, match="nosuch"):
            storage.initdb()
    assert storage.get_request(request).tasks == 1
    assert storage.db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)


@fault(16, "a database of another program", promise="it is refused and left alone")
def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "firefox"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE cookies (x)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StorageError, match="database of another program"):
        Storage(file).initdb()
    assert file.read_bytes() == before


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


# Arrays


def test_array_jobs_are_numbered_and_kept(storage: Storage) -> None:
    request, other = request_of(storage, 2), request_of(storage, 1)
    first = storage.new_array(request, ArrayJob(0, "n", "d", 7, urls=("https://a:1",)))
    second = storage.new_array(request, ArrayJob(0, "m", "e", 3, level=2))
    assert (first.number, second.number, storage.new_array(other, first).number) == (1, 2, 1)
    assert storage.arrays(request) == [first, second]
    submitted = replace(first, job="12", directory="/home/x", workers=6)
    assert storage.set_submitted(request, submitted)
    assert storage.get_request(request).state == RequestState.SUBMITTED
    when = storage.get_request(request).submitted
    assert storage.set_submitted(request, replace(second, job="13"))
    assert storage.get_request(request).submitted == when
    storage.set_urls(request, 1, ["https://b:2"])
    storage.end_array(request, 2)
    first, second = storage.arrays(request)
    assert first == replace(submitted, urls=("https://b:2",))
    assert second.job == "13"
    assert second.ended is not None


def test_the_array_job_of_a_request_that_has_ended_is_not_waited_for(storage: Storage) -> None:
    request = request_of(storage, 1)
    array = storage.new_array(request, ArrayJob(0, "n", "d", 1))
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    assert not storage.set_submitted(request, replace(array, job="12"))
    assert storage.get_request(request).state == RequestState.ENDED


# Attempts, cancelled and begun again


def test_an_attempt_is_kept_once(storage: Storage) -> None:
    request = request_of(storage, 3)
    attempt = Outcome(task=2, kind=Kind.RAISED, value=b"why", attempt=1, host="node", seconds=2.5, output=b"said")
    assert storage.store_attempts(request, [attempt, attempt]) == [True, False]
    assert storage.store_attempts(request, [attempt._replace(value=b"again")]) == [False]
    noted = Outcome(task=1, kind=Kind.LOST, value=b"lost", attempt=3)
    assert storage.store_attempts(request, [noted], counts=False) == [True]
    assert list(storage.attempts(request)) == [(noted, False), (attempt, True)]
    storage.store_result(request, 2, b"r")
    assert list(storage.attempts(request)) == [(noted, False), (attempt, True)]
    assert list(storage.attempts(request, pending=True)) == [(noted, False)]


def test_signal_status_and_peak_are_kept_with_an_outcome_and_an_attempt(storage: Storage) -> None:
    request = request_of(storage, 4)
    outcomes = [
        Outcome(task=1, peak=1 << 40, attempts=1),
        Outcome(task=2, kind=Kind.DIED, value=b"died", signal=9, attempts=1),
        Outcome(task=3, kind=Kind.DIED, value=b"died", status=0, attempts=1),
        Outcome(task=4, kind=Kind.RAISED, value=b"raised", attempts=1),
    ]
    attempt = Outcome(task=2, kind=Kind.DIED, value=b"died", signal=11, status=1, peak=5)
    storage.store_attempts(request, [attempt])
    storage.store_outcomes(request, outcomes)
    storage.store_outcomes(request, [Outcome(task=1, peak=7), Outcome(task=4, peak=7)])
    assert [*storage.outcomes(request, [(1, 4)])] == outcomes
    assert [outcome for _, outcome in storage.errors(request)] == outcomes[1:]
    assert [*storage.attempts(request)] == [(attempt, True)]
    assert storage.retry(request, {}, True) == 3
    assert [*storage.outcomes(request, [(1, 4)])] == outcomes[:1]
    history = [outcome for outcome, _ in storage.attempts(request)]
    assert history == [outcomes[1]._replace(attempts=0), *(each._replace(attempts=0) for each in outcomes[2:])]
    storage.remove_request(request)
    assert storage.db.execute("SELECT count(*) FROM measure").fetchone() == (0,)


def test_tasks_that_are_ended_together_tell_how_often_they_may_have_been_begun(storage: Storage) -> None:
    request = request_of(storage, 4)
    storage.set_leased(request, 2)
    storage.store_attempts(
        request,
        [Outcome(task=2, kind=Kind.LOST, value=b"", attempt=3), Outcome(task=3, kind=Kind.LOST, value=b"", attempt=1)],
    )
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    assert [outcome.attempts for _, outcome in storage.errors(request)] == [1, 4, 1, 0]


def ended_request(storage: Storage) -> int:
    """Its tasks: a result, an error, never run, cancelled."""
    request = request_of(storage, 4)
    storage.set_leased(request, 4)
    storage.store_attempts(request, [Outcome(task=2, kind=Kind.LOST, value=b"lost", attempt=1)])
    kinds = [Kind.RESULT, Kind.RAISED, Kind.NOT_RUN, Kind.CANCELLED]
    values = [
        Outcome(task=index, kind=kind, value=kind.name.encode(), attempt=2, signal=index % 3, peak=index // 3)
        for index, kind in enumerate(kinds, 1)
    ]
    storage.store_outcomes(request, values)
    return request


@pytest.mark.parametrize(("failed", "pending"), [(False, [(3, 4)]), (True, [(2, 4)])])
def test_what_is_tried_again(storage: Storage, failed: bool, pending: list[tuple[int, int]]) -> None:
    request = ended_request(storage)
    before = storage.get_request(request)
    assert storage.retry(request, {"retries": 7}, failed) == sum(last - first + 1 for first, last in pending)
    assert storage.pending(request) == pending
    assert storage.get_results(request) == [(b"args 1", b"RESULT")]
    assert storage.progress(request) == Progress(4, 1, 0 if failed else 1)
    now = storage.get_request(request)
    assert now.token != before.token
    assert (now.state, now.options, now.leased, now.gave_up) == (RequestState.NEW, {"retries": 7}, 0, False)
    history = [(outcome.task, outcome.attempt, outcome.kind, counts) for outcome, counts in storage.attempts(request)]
    again = [(2, 2, Kind.RAISED, False)] if failed else []
    others = [(3, 2, Kind.NOT_RUN, False), (4, 2, Kind.CANCELLED, False)]
    assert history == [(2, 1, Kind.LOST, False), *again, *others]


def test_a_retry_that_is_undone_leaves_everything_as_it_was(storage: Storage) -> None:
    request = ended_request(storage)

    def all_of_it() -> list[object]:
        history = [(outcome, counts) for outcome, counts in storage.attempts(request) if not counts]
        return [storage.progress(request), list(storage.errors(request)), list(storage.results(request)), history]

    storage.store_outcomes(request, [])
    storage.db.execute("UPDATE attempt SET counts = 0")
    before, was = all_of_it(), storage.get_request(request)
    assert storage.retry(request, {"retries": 7}, failed=True) == 3
    storage.undo_retry(request, was.options)
    assert all_of_it() == before
    now = storage.get_request(request)
    assert (now.state, now.options) == (RequestState.ENDED, was.options)
    assert now.token != was.token
    storage.undo_retry(request, {})  # what has ended is left alone
    assert storage.get_request(request) == now


def test_what_was_never_begun_keeps_its_error_when_a_retry_is_undone(storage: Storage) -> None:
    request = request_of(storage, 3)
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    before = list(storage.errors(request))
    for _ in range(2):
        assert storage.retry(request, {}, failed=True) == 3
        assert list(storage.attempts(request, pending=True)) == []  # that was no attempt
        storage.undo_retry(request, {})
        assert list(storage.errors(request)) == before
        assert list(storage.attempts(request)) == []


def test_the_first_outcomes_since_the_submission(storage: Storage) -> None:
    request = request_of(storage, 5)
    storage.store_outcomes(
        request,
        [Outcome(task=1, kind=Kind.RAISED, value=b"long ago"), Outcome(task=5, kind=Kind.RESULT, value=b"long ago")],
    )
    storage.db.execute("UPDATE outcome SET stored = stored - 100")
    storage.store_error(request, 3, b"a")
    storage.store_error(request, 2, b"b")
    storage.db.execute("UPDATE outcome SET stored = stored + 10 WHERE value = ?", (b"b",))
    assert [outcome.value for outcome in storage.first_outcomes(request, 5)] == [b"a", b"b"]
    assert [outcome.value for outcome in storage.first_outcomes(request, 1)] == [b"a"]
    storage.store_result(request, 4, b"r")
    assert [outcome.kind for outcome in storage.first_outcomes(request, 5)] == [Kind.RESULT]


def test_a_retried_request_ends_again_and_its_array_jobs_are_over(storage: Storage) -> None:
    request = ended_request(storage)
    storage.new_array(request, ArrayJob(0, "n", "d", 1))
    storage.retry(request, {}, failed=True)
    assert storage.arrays(request)[0].ended is not None
    storage.store_outcomes(request, [Outcome(task=index, kind=Kind.RESULT, value=b"now") for index in (2, 3, 4)])
    assert storage.get_request(request).state == RequestState.ENDED
    assert storage.progress(request) == Progress(4, 4, 0)


@pytest.mark.parametrize("case", ["has not ended", "has only results"])
def test_what_cannot_be_tried_again_stays_as_it_is(storage: Storage, case: str) -> None:
    request = request_of(storage, 2)
    storage.store_error(request, 1, b"why")
    if case == "has only results":
        request = request_of(storage, 1)
        storage.store_result(request, 1, b"r")
    before = (storage.get_request(request), list(storage.tasks(request)))
    assert storage.retry(request, {"retries": 7}, failed=True) == 0
    assert (storage.get_request(request), list(storage.tasks(request))) == before


def test_a_request_without_tasks_is_not_tried_again(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [])
    assert storage.retry(request, {}, failed=True) == 0


def test_what_is_not_a_file_is_left_alone(tmp_path: Path) -> None:
    """Nor is its mode changed: /dev/null would be of no more use to anybody."""
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o644)
    with pytest.raises(StorageError, match="pipe is not a file: choose another dbfile"):
        Storage(path).initdb()
    assert path.stat().st_mode & 0o777 == 0o644
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(0o755)
    with pytest.raises(StorageError):
        Storage(directory).initdb()
    assert directory.stat().st_mode & 0o777 == 0o755
