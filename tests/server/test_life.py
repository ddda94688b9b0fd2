"""The server's life, with real processes; and what it answers on the wire."""

import fcntl
import http.client
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sheepdog import client
from sheepdog.errors import NotOwnFile, NotOwnRequest, PortInUse, RequestNotFound, ServerError, StorageError
from sheepdog.server.certificate import make_certificate
from sheepdog.server.life import Server, get_server, lock_file, log_file, take_lock
from sheepdog.server.main import LINGER
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.waiting import until

Make = Callable[..., Server]


@pytest.fixture
def dbfile(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def make(servers: None, dbfile: Path) -> Iterator[Make]:
    """Make servers, of one database if nothing else is said; all are stopped at the end."""
    made: list[Server] = []

    def make(port: int | None = None, dbfile: Path = dbfile, **options: Any) -> Server:
        made.append(Server(port, dbfile=dbfile, **options))
        return made[-1]

    yield make
    for server in made:
        if Path(server.dbfile).parent.is_dir():
            server.stop()


def new_request(dbfile: Path, count: int = 1) -> int:
    with Storage(dbfile) as storage:
        return storage.new_request(b"function", b"", [b"args"] * count, form=form(), options={"lease": 150.0})


def submit(storage: Storage, request: int, port: int = 1) -> None:
    """Note an array job whose workers call this port."""
    array = storage.new_array(request, ArrayJob(0, "herd", "directory", 1, urls=(f"https://head:{port}",)))
    storage.set_submitted(request, replace(array, job="1"))


def processes_of(dbfile: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"serve" in command and str(dbfile).encode() in command and command[0] != b"/bin/sh" and state != "Z":
            found.append(int(process.name))
    return found


def started(server: Server) -> Server:
    """Wait until the process has said which one it is."""
    server.start()
    until(lambda: server.pid, "the server has written its process id")
    return server


def listens(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), 5).close()
    except OSError:
        return False
    return True


def certificate(dbfile: Path) -> Any:
    with Storage(dbfile) as storage:
        return storage.get_setting("certificate")


# Its life


def test_start_and_stop(make: Make, dbfile: Path) -> None:
    server = make()
    assert not server.running
    assert server.pid is None
    with started(server):
        assert server.running
        assert processes_of(dbfile) == [server.pid]
        assert listens(server.port)
    assert not server.running
    until(lambda: not processes_of(dbfile), "its process has ended")
    assert not listens(server.port)
    server.stop()  # again


@fault(
    "other people",
    "the lock or the log is a link, or has a second name",
    promise="no server is started, and it says why; the file behind it stays as it is",
)
@pytest.mark.parametrize("suffix", ["-server", "-server.log"])
@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_neither_lock_nor_log_leads_elsewhere(make: Make, dbfile: Path, suffix: str, how: str) -> None:
    precious = dbfile.with_name("precious")
    precious.write_text("precious")
    getattr(Path(f"{dbfile}{suffix}"), how)(precious)
    with pytest.raises(NotOwnFile, match=f"db{suffix} (is a link|has another name)"):
        make().start()
    assert processes_of(dbfile) == []
    assert precious.read_text() == "precious"
    Path(f"{dbfile}{suffix}").unlink()


def test_to_look_for_a_server_makes_no_file(make: Make, dbfile: Path) -> None:
    assert make().pid is None
    assert list(dbfile.parent.iterdir()) == []


def test_a_link_of_one_s_own_has_the_server_of_the_database(make: Make, dbfile: Path) -> None:
    link = dbfile.with_name("link")
    link.symlink_to("db")
    server = started(make(dbfile=link))
    assert make().pid == server.pid
    assert not link.with_name("link-server").exists()


def test_no_server_serves_a_copy(make: Make, dbfile: Path) -> None:
    new_request(dbfile)
    copy = shutil.copy(dbfile, dbfile.with_name("copy"))
    with pytest.raises(NotOwnRequest, match="is a copy of the one that was made as"):
        make(dbfile=copy).start()
    command = [sys.executable, "-m", "sheepdog", "serve", copy]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{copy} is a copy of the one that was made as {dbfile}" in done.stderr
    assert not Path(f"{copy}-server").exists()


@fault((18, "second call"), "a second call with the database of a running server", promise="it joins that server")
def test_a_running_server_is_found_not_started_again(make: Make, dbfile: Path) -> None:
    first = started(make())
    assert make().start().pid == first.pid == get_server(dbfile=dbfile).pid
    assert processes_of(dbfile) == [first.pid]


@fault(
    1,
    "a server that ended, by SIGTERM or kill -9, and the next one",
    promise="the same port and certificate: workers find it",
)
@pytest.mark.parametrize("end", ["stop", "kill -9"])
def test_the_next_server_has_the_same_port_and_certificate(make: Make, dbfile: Path, end: str) -> None:
    server = started(make())
    before, pid = (server.port, certificate(dbfile)), server.pid
    if end == "stop":
        server.stop()
    else:
        assert pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not server.running, "the lock is free")
    started(server)
    assert (server.port, certificate(dbfile)) == before
    assert server.pid != pid


def test_workers_may_connect_as_soon_as_start_returns(make: Make) -> None:
    assert listens(make().start().port)


@fault(
    (18, "two clients"),
    "several clients that start the server at once",
    promise="one process serves; all of them find it",
)
def test_several_starters_at_once_make_one_process(make: Make, dbfile: Path) -> None:
    script = "import sys\nfrom sheepdog.server import get_server\nsys.stdin.read()\nget_server(dbfile=sys.argv[1])"
    starters = [subprocess.Popen([sys.executable, "-c", script, dbfile], stdin=subprocess.PIPE) for _ in range(4)]
    for starter in starters:
        assert starter.stdin
        starter.stdin.close()
    assert [starter.wait() for starter in starters] == [0] * 4
    started(make())
    assert len(processes_of(dbfile)) == 1
    assert "Traceback" not in log_file(str(dbfile)).read_text()


def test_start_starts_though_others_ask_whether_it_runs(make: Make, dbfile: Path) -> None:
    """Whoever waits for results in another process asks every second."""
    server = make()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            Server(dbfile=dbfile).running  # noqa: B018

    with ThreadPoolExecutor(3) as pool:
        try:
            for _ in range(3):
                pool.submit(ask)
            for _ in range(5):
                server.start()
                until(lambda: processes_of(dbfile), "the server that was started is there")
                server.stop()
        finally:
            over.set()


def test_who_only_looks_is_taken_for_no_server(make: Make, dbfile: Path) -> None:
    """The last server's words are there still."""
    server = started(make())
    server.stop()
    with lock_file(str(dbfile)).open("r+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not server.running


def test_two_databases_have_two_servers(make: Make, tmp_path: Path) -> None:
    first, second = started(make()), started(make(dbfile=tmp_path / "other"))
    assert first.pid != second.pid
    assert first.port != second.port
    first.stop()
    assert second.running


def test_a_database_with_spaces_and_quotes_in_its_name(make: Make, tmp_path: Path) -> None:
    assert started(make(dbfile=tmp_path / "my 'own' $db; x")).running


@fault(18, "a second server of one database", promise="only one holds the lock; a dead one's is taken over")
def test_the_lock_is_one(dbfile: Path) -> None:
    lock = take_lock(str(dbfile))
    assert lock is not None
    assert take_lock(str(dbfile)) is None
    os.close(lock)
    again = take_lock(str(dbfile))
    assert again is not None
    os.close(again)


def test_what_the_server_writes_is_its_owners_alone(make: Make, dbfile: Path) -> None:
    old = os.umask(0)
    try:
        started(make())
    finally:
        os.umask(old)
    for file in dbfile.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    until(lambda: "serving" in log_file(str(dbfile)).read_text(), "the log says so")
    assert "PRIVATE KEY" not in log_file(str(dbfile)).read_text()


# Ports, passwords, addresses


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_the_port_that_was_asked_for(make: Make, dbfile: Path) -> None:
    port = free_port()
    server = started(make(port))
    assert server.port == port
    assert listens(port)
    make(port).start()
    server.stop()
    assert started(make()).port == port


def test_another_port_than_the_one_that_workers_know(make: Make, dbfile: Path) -> None:
    """Nobody may take it from them; once nobody waits, the server moves."""
    port, other = free_port(), free_port()
    server = started(make(port))
    request = new_request(dbfile)
    with Storage(dbfile) as storage:
        submit(storage, request)
        for _ in ("while it runs", "when it is dead"):
            with pytest.raises(RuntimeError, match=f"call port {port}, not {other}"):
                make(other).start()
            server.stop()
        storage.remove_request(request)
    assert started(make(port)).port == port
    assert started(make(other)).port == other
    assert listens(other)
    assert not listens(port)


def has_opened(pid: int | None, dbfile: Path) -> None:
    """Wait until a server has opened the file that it serves: before, it opens it for a moment only."""
    said = f"Started server process [{pid}]"
    until(lambda: said in log_file(str(dbfile)).read_text(), "it serves")
    until(lambda: str(dbfile) in [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()], "it has opened it")


def remove(dbfile: Path) -> None:
    for file in dbfile.parent.glob(f"{dbfile.name}*"):
        if not file.name.endswith(("-server", ".log")):
            file.unlink()


@fault(
    16,
    "a database that is removed while it is served",
    promise="its server ends, and makes no other; the next call starts another for the new file",
)
def test_a_database_that_was_removed(make: Make, dbfile: Path) -> None:
    """Another of its name gets a server of its own, and the old one goes."""
    old = started(make()).pid
    has_opened(old, dbfile)
    remove(dbfile)
    server = started(make())
    assert server.pid != old
    assert listens(server.port)
    has_opened(server.pid, dbfile)
    remove(dbfile)
    until(lambda: not processes_of(dbfile), "it has gone by itself")
    assert not dbfile.exists()
    with pytest.raises(StorageError, match=r"there is no database .* any more"):
        server.start(make=False)
    with pytest.raises(ServerError, match="has had no server yet"):
        print(server.port)
    assert not dbfile.exists()


@fault(
    19,
    "a port that is asked for and taken",
    promise="an error that says which key to change; nothing stands in the way afterwards",
)
def test_a_port_that_is_taken(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} of this machine is taken .*option port") as caught:
            make(port).start()
        assert isinstance(caught.value, RuntimeError)
        assert not make().running
    assert started(make(port)).port == port  # nothing stands in the way of another try


@fault(
    (19, "port taken"),
    "the server's port is taken when it starts again",
    promise="it moves, and its workers learn where",
)
def test_a_port_that_was_taken_meanwhile(make: Make, dbfile: Path) -> None:
    """The server takes another one and tells its workers: see tests/server/scheduling."""
    server = started(make())
    port = server.port
    server.stop()
    with Storage(dbfile) as storage:
        submit(storage, new_request(dbfile))
    with socket.create_server(("127.0.0.1", port)):
        assert started(make()).port != port
        moved = server.port
        server.stop()
    assert started(make()).port == moved


@fault(
    19, "the port that its user asked for is taken", promise="the server does not move: a firewall may know that port"
)
def test_a_port_that_was_asked_for_and_was_taken_meanwhile(make: Make, dbfile: Path) -> None:
    port = free_port()
    server = started(make(port))
    server.stop()
    with Storage(dbfile) as storage:
        submit(storage, new_request(dbfile))
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortInUse, match=f"port {port} .*option port"):
        make().start()
    assert started(make()).port == port


@fault(19, "two databases that want one port", promise="the second is told; the first goes on")
def test_another_database_on_the_port_of_a_running_server(make: Make, tmp_path: Path) -> None:
    port = started(make()).port
    with pytest.raises(RuntimeError, match=f"port {port} of this machine is taken"):
        make(port, dbfile=tmp_path / "other").start()


def test_two_who_disagree_about_the_password_learn_of_it(make: Make) -> None:
    server = started(make(password="baa"))
    make(password="baa").start()
    make().start()
    with pytest.raises(RuntimeError, match="was started with another password"):
        make(password="moo").start()
    server.stop()
    make(password="moo").start()
    with pytest.raises(ServerError):
        make(password="baa").start()


def test_a_server_for_this_machine_alone_and_one_for_all(make: Make) -> None:
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = "127.0.0.1"
    if address.startswith("127."):
        address = "127.1.2.3"  # not where the private one listens
    private = started(make())
    port, pid = private.port, private.pid
    assert listens(port)
    assert not listens(port, address)
    public = started(make(public=True))
    assert public.port == port
    assert public.pid != pid
    assert listens(port)
    assert listens(port, address)
    assert make().start().pid == public.pid
    public.stop()
    started(make())
    assert listens(port, address)  # its workers may be anywhere


@pytest.mark.parametrize("path", ["/nonexistent/db", "/proc/db"])
def test_where_no_database_can_be(path: str) -> None:
    with pytest.raises(StorageError, match=path):
        get_server(dbfile=path)


@fault(16, "a database of another program", promise="it is refused and left alone")
def test_a_database_of_another_program(make: Make, dbfile: Path) -> None:
    dbfile.write_text("It is a truth universally acknowledged\n" * 100)
    with pytest.raises(StorageError, match="is not a database"):
        make().start()
    dbfile.unlink()
    assert started(make()).running


# The command


@fault(
    (18, "SIGTERM"),
    "a second server in the foreground; SIGTERM to the first",
    promise="the second names the first's process; the first ends in order, with status 0",
)
def test_serve_runs_in_the_foreground_until_told(make: Make, dbfile: Path) -> None:
    command = [sys.executable, "-m", "sheepdog", "serve", str(dbfile)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=dbfile.parent)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"there is no database '{dbfile}'" in done.stderr
    Storage(dbfile).initdb()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=dbfile.parent) as process:
        try:
            until(lambda: make().pid == process.pid, "it serves")
            assert listens(make().port)
            second = subprocess.run(command, capture_output=True, text=True)
            assert second.returncode != 0
            assert f"is running already, as process {process.pid}" in second.stderr
        finally:
            process.terminate()
        said = process.communicate()[1]
    assert process.returncode == 0
    assert f"serving {dbfile} on port" in said
    assert "ended by a signal" in said
    assert "Traceback" not in said


def test_the_server_goes_when_there_is_nothing_left_to_do_and_not_before(make: Make, tmp_path: Path) -> None:
    new_request(tmp_path / "busy")
    busy, idle = started(make(dbfile=tmp_path / "busy")), started(make(dbfile=tmp_path / "idle"))
    begin = time.monotonic()
    until(lambda: not idle.running, "it is gone", timeout=LINGER + 10)
    assert time.monotonic() - begin > LINGER / 2
    assert "nothing left to do" in log_file(idle.dbfile).read_text()
    until(lambda: not processes_of(tmp_path / "idle"), "its process has ended")
    assert busy.running


# The wire


class Caller:
    """A stranger or a worker, speaking plain HTTP over TLS."""

    def __init__(self, server: Server, request: int) -> None:
        with Storage(server.dbfile) as storage:
            self.context = ssl.create_default_context(cadata=storage.get_setting("certificate"))
            try:
                self.token = storage.get_request(request).token
            except RequestNotFound:
                self.token = ""
        self.context.check_hostname = False
        self.port = server.port
        self.request = request

    def call(self, verb: str, body: bytes, token: str | None = None, request: Any = None, **headers: str) -> Any:
        """Return the status and the body of the answer."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)
        shown = self.token if token is None else token
        path = f"/requests/{self.request if request is None else request}/{verb}"
        headers = {"Content-Type": "application/x-sheepdog", "Authorization": f"Bearer {shown}"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def exchange(self, worker: str, number: int = 1, **header: Any) -> Any:
        header = {"worker": worker, "call": number, "want": 1, "holding": [], "outcomes": [], **header}
        return self.call("exchange", client.pack(header, []))


@pytest.fixture
def caller(make: Make, dbfile: Path) -> Caller:
    request = new_request(dbfile, 10)
    return Caller(started(make()), request)


def test_a_worker_is_let_in_with_its_token(caller: Caller) -> None:
    about = {"worker": "w", "protocol": client.PROTOCOL, "python": client.describe_python()}
    status, body = caller.call("join", client.pack(about, []))
    assert status == 200
    assert body.endswith(b"function")


@fault(
    (21, 22, 25),
    "wrong tokens, lying lengths, calls of a browser",
    promise="401, 413, 400 or 403, and the workers are served as before",
)
def test_what_is_refused_and_how(caller: Caller) -> None:
    fine = client.pack({"worker": "w", "call": 1, "want": 1, "holding": [], "outcomes": []}, [])
    refusals = [
        (caller.call("exchange", fine, token="0" * 64), 401, b"the token is not this request's"),
        (caller.call("exchange", fine, token="\xe9"), 401, b"the token"),
        (caller.call("exchange", fine, request=4711), 401, b"the token"),
        (caller.call("exchange", fine, request=0), 401, b"the token"),
        (caller.call("steal", fine), 404, b"calls are join and exchange"),
        (caller.call("exchange", fine, origin="https://evil"), 403, b"no place for a browser"),
        (caller.call("exchange", fine, sec_fetch_mode="cors"), 403, b"browser"),
        (caller.call("exchange", b""), 400, b"cut off"),
        (caller.call("exchange", b"\xff\xff\xff\xff"), 413, b"allowed"),
        (caller.call("exchange", b"\0\0\0\x02[]"), 400, b"not an object"),
        (caller.call("exchange", fine + b"more"), 400, b"do not add up"),
        (caller.call("exchange", client.pack({}, [10])), 400, b"do not add up"),
        (caller.call("exchange", client.pack({}, [])), 400, b"worker must be"),
    ]
    for (status, body), expected, words in refusals:
        assert (status, words in body) == (expected, True), body
    assert caller.exchange("w")[0] == 200


@fault(
    52,
    "calls with a wrong token and absurd numbers",
    promise="nothing that the server remembers of its workers is lost",
)
def test_a_stranger_cannot_disturb_the_workers(caller: Caller) -> None:
    """A server that forgets what it knows would lease the task again, or not know the worker's latest call."""
    assert caller.exchange("w", 7)[0] == 200
    for unknown in (2**63, 10**30):
        assert caller.call("exchange", b"", token="x", request=unknown)[0] == 401
    assert caller.exchange("w", 7)[0] == 400


@fault(19, "another program on the server's port", promise="its certificate is not ours: a worker says nothing to it")
def test_a_certificate_of_another_server_is_not_trusted(caller: Caller) -> None:
    caller.context = ssl.create_default_context(cadata=make_certificate()[0])
    caller.context.check_hostname = False
    with pytest.raises(ssl.SSLCertVerificationError):
        caller.exchange("w")


def test_a_large_outcome_goes_through_files(caller: Caller, dbfile: Path) -> None:
    value = os.urandom(20_000_000)
    header = {"worker": "w", "call": 1, "want": 0, "holding": [], "outcomes": [[1, 1, 0, 0.1]]}
    status, _ = caller.call("exchange", client.pack(header, [len(value), 0]) + value)
    assert status == 200
    with Storage(dbfile) as storage:
        assert storage.get_results(caller.request) == [(b"args", value)]


@fault(
    (1, 2, "power loss"),
    "kill -9 after an outcome was acknowledged; the shared memory of the database lost",
    promise="the outcome is on the disk",
)
def test_what_was_acknowledged_survives_any_end(caller: Caller, make: Make, dbfile: Path) -> None:
    server = make()
    header = {"worker": "w", "call": 1, "want": 0, "holding": [], "outcomes": [[1, 1, 0, 0.1]]}
    assert caller.call("exchange", client.pack(header, [1, 0]) + b"r")[0] == 200
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running, "it is dead")
    for beside in dbfile.parent.glob("db-shm"):  # as after a power failure
        beside.unlink()
    copy = dbfile.parent / "copy"
    copy.mkdir()
    for file in dbfile.parent.glob("db*"):
        shutil.copy(file, copy)
    with Storage(copy / "db") as storage:
        assert storage.get_results(caller.request) == [(b"args", b"r")]
