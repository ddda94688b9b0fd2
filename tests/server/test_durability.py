"""What is acknowledged is on the disk: the server killed, the power lost, the disk full, locked, slow or damaged."""

import collections
import contextlib
import http.client
import os
import pickle
import random
import re
import signal
import socket
import sqlite3
import ssl
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from sheepdog import client
from sheepdog.errors import StorageError
from sheepdog.server.life import Server, log_file
from sheepdog.storage import Storage
from sheepdog.storage.schema import SPAN
from tests import disk as disks
from tests.disk import faulty_disk
from tests.disk.power_loss import Disk
from tests.faults import fault
from tests.local import servers_of, workers_of
from tests.waiting import until

DB = "sheepdog.sqlite"
SEED = 20_240_229


@pytest.fixture(autouse=True)
def place(place: Path) -> Iterator[Path]:
    """Whatever serves or works there is killed: a server with a broken disk does not stop."""
    yield place
    for pid in [*servers_of(place), *workers_of(place)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not servers_of(place), "the servers have ended")


def kill_server(place: Path) -> None:
    """Kill the server's process, even if it is only coming up; return when its lock is free."""
    for pid in servers_of(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not servers_of(place) and not Server(dbfile=DB).running, "the server is dead, and its lock free")


def work(i: int, mark: str, seconds: float = 0.003, gate: int = 0) -> int:
    """Leave a mark, and return the square. At a gate, wait until the server was killed often enough."""
    import os
    import time

    while gate > 0 and os.path.getsize(mark + ".kills") < gate:
        time.sleep(0.01)
    time.sleep(seconds)
    file = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b"%d\n" % i)
    os.close(file)
    return i * i


def ran(place: Path) -> list[int]:
    return [int(line) for line in (place / "ran").read_text().split()]


def check_runs(place: Path, count: int, talker: "Talker") -> int:
    """Each task ran once. Only one of the talker's may run again: no scheduler tells the server to wait for it."""
    runs = collections.Counter(ran(place))
    twice = {i for i, times in runs.items() if times > 1}
    assert runs.keys() == set(range(count))
    assert twice <= talker.ran
    return len(twice)


def check_results(request_id: int, count: int, dbfile: str = DB) -> None:
    """Each task has ended once, with its own result."""
    results = sheepdog.get_results(request_id, dbfile)
    assert sheepdog.get_errors(request_id, dbfile) == []
    assert [result for _, result in results] == [i * i for i in range(count)]
    with Storage(dbfile) as storage:
        assert storage.db.execute("SELECT count(*) FROM outcome").fetchone() == (count,)
        assert storage.progress(request_id).done == count


class Talker(threading.Thread):
    """A worker in this process, which writes down what it was told is stored."""

    def __init__(self, request_id: int, dbfile: str = DB) -> None:
        super().__init__(daemon=True)
        self.request_id = request_id
        self.name = uuid.uuid4().hex
        with Storage(dbfile) as storage:
            self.token = storage.get_request(request_id).token
            storage.db.execute("UPDATE array SET workers = workers + 1")  # after a restart the server waits for so many
            self.port = storage.get_setting("port")
            self.context = ssl.create_default_context(cadata=storage.get_setting("certificate"))
        self.context.check_hostname = False
        self.acknowledged: dict[int, bytes] = {}
        self.stored = 0
        self.ran: set[int] = set()
        self.over = threading.Event()
        self.connection: http.client.HTTPSConnection | None = None

    def run(self) -> None:
        outcomes: list[client.Outcome] = []
        calls = 0
        while not self.over.is_set():
            calls += 1
            try:
                reply, arguments = self.exchange(calls, outcomes)
            except (OSError, http.client.HTTPException, ValueError):
                self.hang_up()
                self.over.wait(0.05)
                continue
            self.stored += reply["stored"]
            self.acknowledged.update((outcome.task, outcome.value) for outcome in outcomes)
            if reply.get("stop"):
                return
            self.over.wait(reply.get("wait", 0.0))
            outcomes = []
            for (index, attempt), blob in zip(reply["tasks"], arguments, strict=True):
                args, _ = pickle.loads(blob)
                if not self.may_pass(*args[3:]):
                    return
                self.ran.add(args[0])
                value = client.dump(work(*args))
                outcomes.append(client.Outcome(index, attempt, client.RESULT, 0.001, value, b""))

    def exchange(self, number: int, outcomes: list[client.Outcome]) -> tuple[dict[str, Any], list[bytes]]:
        header = {"worker": self.name, "host": "here", "pid": os.getpid(), "element": "talker", "array": 1}
        header |= {"call": number, "want": 5, "holding": [], "leaving": None}
        header["outcomes"] = [[o.task, o.attempt, o.kind, o.seconds] for o in outcomes]
        blobs = [blob for outcome in outcomes for blob in (outcome.value, outcome.output)]
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)
        body = b"".join([client.pack(header, [len(blob) for blob in blobs]), *blobs])
        path = f"/requests/{self.request_id}/exchange"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/x-sheepdog"}
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        if answer.status != 200:
            raise OSError(answer.read())
        reply = client.unpack(answer)
        found = [client.read_blob(answer, length) for length in reply["blobs"]]
        answer.read()
        return reply, found

    def may_pass(self, gate: int = 0) -> bool:
        """Wait at a gate, as `work` does, unless it is time to stop."""
        while gate and os.path.getsize("ran.kills") < gate:
            if self.over.wait(0.01):
                return False
        return True

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def __enter__(self) -> "Talker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
        self.hang_up()


def lost(acknowledged: dict[int, bytes], request_id: int, db: sqlite3.Connection) -> list[int]:
    """Return the tasks whose outcome is not there, or another one, although it was acknowledged."""
    rows = db.execute("SELECT id, value FROM outcome WHERE id / ? = ?", (SPAN, request_id))
    stored = {row % SPAN: value for row, value in rows}
    return [index for index, value in acknowledged.items() if stored.get(index) != value]


def seconds_until_served(port: int) -> float:
    """Wait until a server shakes hands."""
    begin = time.monotonic()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain):
                return time.monotonic() - begin
        except ConnectionRefusedError:
            assert time.monotonic() - begin < 20
            time.sleep(0.005)


# --- kill -9


@fault(
    1,
    "the server is killed with -9 a hundred times, also while it comes up",
    promise="no outcome is lost that was acknowledged; each task has one, and ran once",
)
def test_the_server_is_killed_100_times(place: Path) -> None:
    """5,000 outcomes, each right and none twice. What a worker was told is stored is there after each kill."""
    kills, count = 100, 5000
    chance = random.Random(SEED)
    mark = str(place / "ran")
    Path(mark + ".kills").touch()
    gates = {i: i * kills // count for i in range(0, count, 50)} | {count - 1: kills}  # so that the run lasts so long
    args = [(i, mark, 0.003, gates.get(i, 0)) for i in range(count)]
    request_id = sheepdog.map_async(work, args, {"workers": 2})
    server = Server(dbfile=DB)
    serving, before = [], 0
    with Storage(DB) as storage, Talker(request_id) as talker:
        for _ in range(kills):
            server.start()
            if chance.random() < 0.5:  # else it may be killed while it comes up
                serving.append(seconds_until_served(talker.port))
            time.sleep(chance.uniform(0.0, 0.4))
            acknowledged, stored = dict(talker.acknowledged), talker.stored
            kill_server(place)
            assert lost(acknowledged, request_id, storage.db) == []
            (outcomes,) = storage.db.execute("SELECT count(*) FROM outcome").fetchone()
            assert max(before, stored) <= outcomes == storage.progress(request_id).done
            before = outcomes
            with open(mark + ".kills", "a") as file:
                file.write(".")
        assert before < count, "the run lasted through all kills"
        server.start()
        check_results(request_id, count)
    twice = check_runs(place, count, talker)
    print(f"\n{kills} kills; {twice} tasks ran twice; {talker.stored} outcomes came from the talker;", end=" ")
    print(f"restart to serving: median {statistics.median(serving):.3f} s, at most {max(serving):.3f} s")
    assert statistics.median(serving) < 2.0


@pytest.mark.parametrize("kind", ["stored", "tasks"])
@fault(
    (2, 3),
    "the server dies between a commit and its reply",
    promise="nothing is stored twice; what was leased is leased again to the same worker",
)
def test_the_server_dies_between_commit_and_reply(place: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The worker repeats its call; nothing is stored twice, and what was leased is leased again, to nobody else."""
    count = 400
    for name, value in disks.environment(kill=[kind, 3]).items():
        monkeypatch.setenv(name, value)
    request_id = sheepdog.map_async(work, [(i, str(place / "ran"), 0.01) for i in range(count)], {"workers": 2})
    server = Server(dbfile=DB)
    deaths = 0
    with Storage(DB) as storage:
        while not storage.progress(request_id).finished:
            until(
                lambda: not servers_of(place) or storage.progress(request_id).finished, "it is dead, or all has ended"
            )
            if not servers_of(place):
                deaths += 1
                server.start()
    check_results(request_id, count)
    assert sorted(ran(place)) == list(range(count))
    print(f"\n{deaths} deaths")
    assert deaths >= 3


# --- power loss


def lose_power(place: Path, request_id: int, talker: Talker, rounds: int, **more: Any) -> Iterator[str]:
    """Let the server die at random writes and syncs, and drop what was not synced; yield what is wrong afterwards.

    No other process opens the database meanwhile: what is on the disk is what the server put there. Each server
    starts with the files that the loss before it has left.
    """
    chance = random.Random(SEED)
    Server(dbfile=DB).stop()
    with contextlib.closing(sqlite3.connect(DB)) as db:
        request = unchanging(db)
    files = {"sheepdog.sqlite": Path(DB).read_bytes()}
    assert not Path(f"{DB}-wal").exists()
    for number in range(rounds):
        journal, copy = place / f"journal.{number}", place / f"copy.{number}"
        disk_faults = {"journal": str(journal), "operations": chance.randrange(1, 150)}
        environment = {**os.environ, **disks.environment(disk=disk_faults, **more)}
        command = [sys.executable, "-m", "sheepdog", "serve", str(place / DB)]
        with (place / "log").open("ab") as log:
            assert subprocess.run(command, stderr=log, env=environment, timeout=60).returncode == -signal.SIGKILL
        acknowledged = dict(talker.acknowledged)
        disk = Disk(files)
        disk.replay(journal)
        files = disk.lose_power(chance)
        copy.mkdir()
        for folder in (place, copy):
            for suffix in ("", "-wal", "-shm"):
                (folder / f"{DB}{suffix}").unlink(missing_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
        with contextlib.closing(sqlite3.connect(copy / DB)) as db:
            for problem in problems(db, request, acknowledged):
                yield f"loss {number}: {problem}"


def problems(db: sqlite3.Connection, request: Any, acknowledged: dict[int, bytes]) -> Iterator[str]:
    """Yield what is wrong with a database after a loss."""
    try:
        if (check := db.execute("PRAGMA quick_check").fetchall()) != [("ok",)]:
            yield f"damaged: {check}"
        if unchanging(db) != request:
            yield "the request is another"
        if missing := lost(acknowledged, 1, db):
            yield f"{len(missing)} of {len(acknowledged)} acknowledged outcomes are lost"
        if db.execute("SELECT done FROM request").fetchone() != db.execute("SELECT count(*) FROM outcome").fetchone():
            yield "the count is wrong"
    except sqlite3.DatabaseError as error:
        yield f"damaged: {error}"


def unchanging(db: sqlite3.Connection) -> list[Any]:
    """Return what of a request stays as it is: its function, its tasks."""
    columns = "id, name, token, form, function, namespace, tasks, created"
    return [db.execute(f"SELECT {columns} FROM request").fetchall(), db.execute("SELECT * FROM task").fetchall()]


needs_sqlite = pytest.mark.skipif(
    not faulty_disk.possible(), reason="this Python's SQLite shows no functions to ctypes"
)


def start_many(place: Path, count: int, **config: Any) -> int:
    args = [(i, str(place / "ran"), 0.005) for i in range(count)]
    return sheepdog.map_async(work, args, {"workers": 2, **config})


@needs_sqlite
@fault(
    "power loss",
    "the power fails 30 times: what was not synced is lost, in part or torn",
    promise="no outcome is lost that was acknowledged; the database is whole",
)
def test_the_power_fails_30_times(place: Path) -> None:
    """See disk/power_loss.py. What was acknowledged is there, the database is whole, and no task runs twice."""
    count, losses = 6000, 30
    request_id = start_many(place, count)
    with Talker(request_id) as talker:
        assert list(lose_power(place, request_id, talker, losses)) == []
        with Storage(DB) as storage:
            assert not storage.progress(request_id).finished, "the run lasted through all losses"
        check_results(request_id, count)
    print(f"\n{losses} losses of power, {len(talker.acknowledged)} outcomes acknowledged to the talker, none lost")
    check_runs(place, count, talker)


@needs_sqlite
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_loss_of_power_shows_what_was_not_synced(place: Path, synchronous: str) -> None:
    """With less synchronisation acknowledged outcomes are lost: so the test above can fail."""
    request_id = start_many(place, 10_000)
    with Talker(request_id) as talker:
        problem = next(lose_power(place, request_id, talker, 30, synchronous=synchronous), "nothing wrong")
    print(f"\nsynchronous={synchronous}: {problem}")
    assert "lost" in problem or "damaged" in problem


# --- the disk


def live_through_a_full_disk(place: str) -> None:
    """Fill the file system `small` while a run goes on, and free it again. Runs in a namespace of its own."""
    count = 2000
    dbfile = "small/sheepdog.sqlite"
    request_id = start_many(Path(place), count, dbfile=dbfile)
    with Storage(dbfile) as storage:
        until(lambda: storage.progress(request_id).done > 200, "200 results")
        with open("small/filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        logs = list(Path(place, "home").glob(".sheepdog/*/worker.*.log"))
        assert len(logs) == 2
        until(lambda: all("the disk is full" in log.read_text() for log in logs), "the workers are told, and wait")
        done = storage.progress(request_id).done
        assert done < count
        waiting = [sys.executable, "-c", f"import sheepdog; sheepdog.get_results(1, {dbfile!r}, verbose=True)"]
        with subprocess.Popen(waiting, stderr=subprocess.PIPE, text=True) as user:
            assert user.stderr
            assert any("the disk is full" in line for line in user.stderr), "whoever waits is told"
            user.kill()
        os.unlink("small/filler")
        until(lambda: storage.progress(request_id).done > done, "it goes on unaided")
    check_results(request_id, count, dbfile)
    assert sorted(ran(Path(place))) == list(range(count))
    Server(dbfile=dbfile).stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@fault(
    (15, "disk full"),
    "the server's disk is full for a while",
    promise="workers keep what they have; with room again the run goes on, nothing lost, nothing twice",
)
def test_the_disk_is_full_for_a_while(place: Path) -> None:
    """The workers keep what they have; when there is room again the run goes on, nothing lost, nothing twice."""
    Path("small").mkdir()
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from tests.server.test_durability import live_through_a_full_disk as f; f(sys.argv[2])"
    root = str(Path(__file__).parents[2])
    mount = 'mount -t tmpfs -o size=4m tmpfs small && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", code, root, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@fault(
    "database locked",
    "another program locks the database for longer than the server waits",
    promise="workers and user are told; then it goes on, nothing lost, nothing twice",
)
def test_another_program_locks_the_database(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the server waits for it (60 s; here 1 s). The workers are told, and try again."""
    for name, value in disks.environment(busy=1.0).items():
        monkeypatch.setenv(name, value)
    count = 1000
    request_id = start_many(place, count)
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done > 100, "100 results")
        logs = list(place.glob("home/.sheepdog/*/worker.*.log"))
        with contextlib.closing(sqlite3.connect(DB, isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            until(
                lambda: all("database is locked" in log.read_text() for log in logs), "the workers are told, and wait"
            )
            assert "database is locked" in Server(dbfile=DB).trouble
            assert storage.progress(request_id).done < count
        until(lambda: not Server(dbfile=DB).trouble, "it goes on")
    check_results(request_id, count)
    assert sorted(ran(place)) == list(range(count))


def break_off(place: Path, count: int) -> int:
    """Let some tasks end, and the server be killed; return the request. Its log holds what it stored last."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from tests.server.test_durability import start_many, Path; start_many(Path(sys.argv[2]), int(sys.argv[3]))"
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code, root, str(place), str(count)], check=True)
    until(lambda: (place / "ran").exists() and len(ran(place)) > 400, "400 runs")
    kill_server(place)
    assert Path(f"{DB}-wal").stat().st_size > 50_000
    return 1


def overwrite(file: str, offset: int, data: bytes) -> None:
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(data)


@pytest.mark.parametrize(
    ("offset", "length", "words"), [(0, 100, "is not a database"), (8192, 40_000, r"is damaged \(.*\): .* \.recover ")]
)
@fault(
    16,
    "a database with a ruined header or overwritten pages",
    promise="nobody serves it; it is left alone, and the message says what can be done",
)
def test_a_damaged_database_is_refused(place: Path, offset: int, length: int, words: str) -> None:
    """Nobody serves it or waits for it, it stays as it is, and the message says what can be done."""
    break_off(place, 1000)
    with contextlib.closing(sqlite3.connect(DB)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(DB, offset, random.Random(SEED).randbytes(length))
    before = Path(DB).read_bytes()
    for call in (Server(dbfile=DB).start, lambda: sheepdog.get_results(1, DB)):
        with pytest.raises(StorageError, match=words):
            call()
    serve = subprocess.run([sys.executable, "-m", "sheepdog", "serve", DB], capture_output=True, text=True, timeout=60)
    assert serve.returncode == 1
    assert re.search(words, serve.stderr)
    assert not servers_of(place)
    assert Path(DB).read_bytes() == before


@fault(16, "a database is damaged while it is served", promise="the server ends, and who waits is told")
def test_a_database_that_is_damaged_while_it_is_served(place: Path) -> None:
    """The server ends when it meets the damage; who waits is told, instead of waiting for ever."""
    request_id = start_many(place, 20_000)
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done > 200, "200 results")
    overwrite(DB, 8192, random.Random(SEED).randbytes(os.path.getsize(DB) - 8192))
    with pytest.raises(StorageError, match="is damaged"):
        sheepdog.get_results(request_id, DB)
    until(lambda: not servers_of(place), "the server has ended")


@pytest.mark.parametrize("damage", [os.unlink, lambda wal: overwrite(wal, 0, bytes(32))])
@fault(
    16,
    "the database's -wal file is deleted or overwritten",
    promise="what was in it is lost, as the docs say; those tasks run again, and the results are right",
)
def test_the_log_is_lost(place: Path, damage: Callable[[str], None]) -> None:
    """What was stored since the last checkpoint is lost with it: those tasks run again, and the results are right."""
    count = 1000
    request_id = break_off(place, count)
    with Storage(DB):
        pass  # the last to close it moves the log into the database: the request is not lost
    sheepdog.Server(dbfile=DB).start()
    until(lambda: len(ran(place)) > 600 and Path(f"{DB}-wal").stat().st_size > 20_000, "there is a log again")
    kill_server(place)
    damage(f"{DB}-wal")
    check_results(request_id, count)
    assert set(ran(place)) == set(range(count))


@needs_sqlite
@fault(14, "each sync of the disk takes half a second longer", promise="over 100 tasks a second; no lease is lost")
def test_a_slow_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sync takes half a second longer. Calls share one, so the workers are hardly slower, and none is lost."""
    for name, value in disks.environment(disk={"sync_seconds": 0.5}).items():
        monkeypatch.setenv(name, value)
    count = 4000
    request_id = start_many(place, count, workers=8, lease=5)
    begin = time.monotonic()
    check_results(request_id, count)
    rate = count / (time.monotonic() - begin)
    print(f"\n{rate:.0f} tasks a second with 8 workers, each sync of the disk taking 0.5 s longer")
    assert rate > 100
    assert sorted(ran(place)) == list(range(count))
    assert "is lost" not in log_file(str(place / DB)).read_text()


# --- time


@fault(4, "the server is stopped for longer than a lease", promise="no worker is lost; each task ran once")
def test_the_server_is_stopped_for_longer_than_a_lease(place: Path) -> None:
    """A time in which it could hear nobody ends no lease: when it wakes, no worker is lost, and no task runs twice."""
    count = 300
    args = [(i, str(place / "ran"), 0.05) for i in range(count)]
    request_id = sheepdog.map_async(work, args, {"workers": 2, "lease": 2})
    server = Server(dbfile=DB)
    with Storage(DB) as storage:
        for number in range(1, 4):
            until(lambda: storage.progress(request_id).done > 20 * number, "results")  # noqa: B023
            pid = server.pid
            assert pid
            os.kill(pid, signal.SIGSTOP)
            until(lambda: f"process {pid}, is stopped" in server.trouble, "who waits hears that it is stopped")  # noqa: B023
            time.sleep(3.5)
            os.kill(pid, signal.SIGCONT)
            assert storage.progress(request_id).done < count
    check_results(request_id, count)
    assert sorted(ran(place)) == list(range(count))
    assert "is lost" not in log_file(str(place / DB)).read_text()
