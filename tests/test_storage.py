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
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheepdog import storage as storage_module
from sheepdog.errors import RequestNotFound, StorageError
from sheepdog.model import Outcome, Progress, State, StoredBlob
from sheepdog.storage import Storage

LARGE = 20_000_000


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage(tmp_path / "db") as storage:
        yield storage


def request_of(storage: Storage, count: int) -> int:
    return storage.new_request(b"f", b"ns", [b"args %d" % number for number in range(1, count + 1)])


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
    states = data.draw(st.lists(st.sampled_from(State), min_size=len(args), max_size=len(args)))
    for index, (value, state) in enumerate(zip(values, states, strict=True), 1):
        {State.DONE: storage.store_result, State.FAILED: storage.store_error}[state](request, index, value)
    ended = list(zip(args, values, states, strict=True))
    assert storage.get_results(request) == [(a, v) for a, v, state in ended if state == State.DONE]
    assert storage.get_errors(request) == [(a, v) for a, v, state in ended if state == State.FAILED]


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


def test_a_second_outcome_of_a_task_changes_nothing(storage: Storage) -> None:
    request = request_of(storage, 2)
    storage.store_result(request, 1, b"first")
    storage.store_result(request, 1, b"second")
    storage.store_error(request, 1, b"third")
    both = [Outcome(2, State.FAILED, b"e"), Outcome(2, State.DONE, b"r"), Outcome(2, State.FAILED, io.BytesIO(b"x"))]
    assert storage.store_outcomes(request, both) == 1
    assert storage.store_outcomes(request, both) == 0
    assert storage.get_results(request) == [(b"args 1", b"first")]
    assert storage.count_results_and_errors(request) == 2
    assert storage.unfinished() == []


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
]


@pytest.mark.parametrize("unknown", [0, -1, 4711, 2**31, 2**40, 2**63, "1x", None])
def test_an_unknown_request_is_a_value_error(storage: Storage, unknown: int) -> None:
    request_of(storage, 1)
    for method in METHODS_OF_REQUESTS:
        with pytest.raises(ValueError, match="there is no request"):
            getattr(storage, method)(unknown)


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


@pytest.mark.parametrize("value", [b"small", b"large" * 3_000_000], ids=["small", "large"])
def test_outcomes_are_stored_all_or_none(storage: Storage, value: bytes) -> None:
    request = request_of(storage, 2)
    with storage.transaction(), pytest.raises(RequestNotFound):  # as when the server goes on with others' calls
        storage.store_outcomes(
            request, [Outcome(1, State.DONE, io.BytesIO(value)), Outcome(3, State.DONE, b"of no task")]
        )
    assert storage.count_results(request) == len(storage.get_results(request)) == 0
    assert storage.pending(request) == [(1, 2)]


def test_a_run_time_that_is_no_number_loses_no_outcome(storage: Storage) -> None:
    request = request_of(storage, 1)
    storage.store_outcomes(request, [Outcome(1, State.DONE, b"x", seconds=float("nan"))])
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
        assert storage.store_outcomes(request, [Outcome(1, State.DONE, file)]) == 1
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
    assert storage.unfinished() == []
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
    assert storage.unfinished() == []
    assert storage.pending(request) == []
    assert storage.get_tasks_with_results(request) == []


def test_what_is_known_of_a_request(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"1", b"2"], name="n", form={"magic": "x"}, options={"lease": 3.0})
    stored = storage.get_request(request)
    assert (stored.name, stored.form, stored.tasks) == ("n", {"magic": "x"}, 2)
    assert (stored.job, stored.submitted, stored.leased) == ("", None, 0)
    storage.set_submitted(request, "12", "/home/x", 7, ["https://a:1"])
    storage.set_leased(request, 2)
    stored = storage.get_request(request)
    assert (stored.job, stored.directory, stored.workers, stored.leased) == ("12", "/home/x", 7, 2)
    assert stored.options == {"lease": 3.0, "urls": ["https://a:1"]}
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
    assert storage.fail_pending(request, "the job is gone") == 5
    assert storage.pending(request) == []
    assert [outcome.task for _, outcome in storage.errors(request)] == [2, 3, 6, 7, 9]
    assert {outcome.value for _, outcome in storage.errors(request)} == {b"the job is gone"}
    assert storage.fail_pending(request, "again") == 0


def test_an_error_keeps_what_is_known_of_it(storage: Storage) -> None:
    request = request_of(storage, 1)
    outcome = Outcome(1, State.FAILED, b"why", attempt=3, host="node", seconds=2.5, output=b"said")
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


def test_a_newer_schema_is_refused(storage: Storage) -> None:
    storage.db.execute(f"PRAGMA user_version = {len(storage_module.MIGRATIONS) + 1}")
    storage.close()
    before = Path(storage.dbfile).read_bytes()
    with pytest.raises(StorageError, match=r"was made by a newer Sheepdog.*upgrade"):
        storage.initdb()
    assert Path(storage.dbfile).read_bytes() == before


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "firefox"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE cookies (x)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StorageError, match="database of another program"):
        Storage(file).initdb()
    assert file.read_bytes() == before


def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("It is a truth universally acknowledged\n" * 100)
    before = file.read_bytes()
    with pytest.raises(StorageError, match=r"thesis\.txt is not a database"):
        Storage(file).initdb()
    assert file.read_bytes() == before


@pytest.mark.parametrize("path", ["/proc/db", "/nonexistent/db", "/dev/null/db", "/proc"])
def test_where_no_file_can_be_made(path: str) -> None:
    with pytest.raises(StorageError, match=f"{path} cannot be written .* choose a dbfile"):
        Storage(path).initdb()


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
        assert storage.unfinished() == list(range(1, 101))
        assert all(storage.get_results(id) == [(b"1", b"%d" % id)] for id in range(1, 101))


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
