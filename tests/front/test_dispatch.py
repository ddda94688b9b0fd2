"""What runs again by itself, and who may call from where; with local processes."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.context import ForkContext, ForkServerContext, SpawnContext
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import NoMainGuard
from tests.faults import fault
from tests.front.gated import results, runs, start
from tests.local import DB, ROOT, errors, parents_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


@fault("retry", "a task fails now and then", promise="with the option retries it runs again, later and later")
def test_retries(place: Path) -> None:
    def f(i: int, directory: str) -> int:
        import os
        import time

        name = os.path.join(directory, f"times {i}")
        with open(name, "a") as file:
            file.write(f"{time.time()}\n")
        with open(name) as file:
            attempt = len(file.readlines())
        if attempt <= 2:
            print("attempt", attempt)
            if i == 1:
                os._exit(3)
            raise ValueError(f"attempt {attempt}")
        return i if attempt == int(os.environ["SHEEPDOG_ATTEMPT"]) else -1

    args = [(i, str(place)) for i in range(2)]
    assert sheepdog.map(f, args, {"retries": 2, "retry_delay": 0.2, "workers": 2}) == [0, 1]
    times = [float(line) for line in (place / "times 0").read_text().split()]
    assert times[1] - times[0] > 0.1  # the delay is drawn between its half and itself
    assert times[2] - times[1] > 0.2
    for i in range(2):
        (place / f"times {i}").unlink()
    assert sheepdog.map(f, args, {"retries": 1, "retry_delay": 0, "workers": 2}, verbose=False) == [None, None]
    first, second = errors(2)
    assert first.startswith("ValueError: attempt 2\n(task 1 of request 2, attempt 2, ")
    assert first.splitlines()[-1].endswith(": ValueError: attempt 1")
    assert "exited with status 3" in second.splitlines()[0]
    assert "exited with status 3" in second.splitlines()[-1]


@fault("alike", "the first tasks of many all fail alike", promise="the rest is not run; retry runs them again")
def test_fail_fast(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def f(i: int, directory: str) -> int:
        import os
        import time

        with open(os.path.join(directory, "ran"), "a") as file:
            file.write(f"{i}\n")
        time.sleep(0.01)
        with open(os.path.join(directory, "input")):
            return i

    args = [(i, str(place)) for i in range(1000)]
    assert sheepdog.map(f, args, {"workers": 2}) == [None] * 1000
    assert "1000 of 1000 tasks failed, 1000 alike: FileNotFoundError: " in capfd.readouterr().err
    said = [error.splitlines()[0] for error in errors(1)]
    failed = [text for text in said if text.startswith("FileNotFoundError: ")]
    assert 20 <= len(failed) < 300
    rest = next(text for text in said if not text.startswith("FileNotFoundError: "))
    assert rest.startswith("not run: the first 20 tasks failed alike: FileNotFoundError at line ")
    assert said.count(rest) == 1000 - len(failed)
    assert len(runs(place)) < 500
    (place / "input").touch()
    assert sheepdog.retry(1, DB) == 1000
    assert results(1) == list(range(1000))
    assert errors(1) == []


@pytest.mark.parametrize(("tasks", "config"), [(99, {}), (150, {"fail_fast": 0})])
def test_fail_fast_is_for_many_and_can_be_left_out(tasks: int, config: dict[str, object]) -> None:
    sheepdog.map(lambda: 1 / 0, [()] * tasks, {"workers": 2, **config}, verbose=False)
    assert {error.splitlines()[0] for error in errors(1)} == {"ZeroDivisionError: division by zero"}


MAP = """
import sys
import sheepdog
sys.path.insert(0, sys.argv[1])
from tests.tasks import gated
if __name__ == "__main__":
    print(sheepdog.map(gated, [(i, sys.argv[2], 2) for i in range(6)], {"workers": 2, "lease": 5}))
"""


def map_elsewhere(place: Path, **options: object) -> "subprocess.Popen[str]":
    """Have another Python call map; return when only tasks that wait are left."""
    command = [sys.executable, "-c", MAP, str(ROOT), str(place)]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)  # type: ignore[call-overload]
    try:
        # Which ones is not said: a worker that comes late finds the first in the other's batch.
        until(lambda: len({*runs(place)} - {0, 1}) >= 2 or child.poll() is not None, "both have a waiting task", 150)
        assert child.poll() is None, child.communicate()
    except BaseException:
        child.kill()
        child.communicate()
        raise
    return child  # type: ignore[no-any-return]


@fault(
    (5, "no workers"), "all workers are killed with -9", promise="others are submitted, who waits reads so, all is done"
)
def test_kill_every_worker(place: Path) -> None:
    with map_elsewhere(place) as child:
        old = parents_of(place)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: set(parents_of(place)) - set(old), "there are new workers")
        (place / "go").touch()
        output, said = child.communicate(timeout=60)
    assert output == "[0, 1, 2, 3, 4, 5]\n"
    assert re.search(r"^sheepdog: .*; 2 workers are submitted again \(1 of 3 times in a row\)$", said, re.MULTILINE)
    assert errors(1) == []


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Have another program listen on a port, and hang up on whoever calls."""
    code = (
        "import socket, sys\nlistener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nprint('listens')\n"
        "sys.stdout.flush()\nwhile True: listener.accept()[0].close()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(port)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            assert other.stdout.readline()
            yield
        finally:
            other.kill()


@fault((19, "port taken"), "another program has the server's port", promise="workers follow the server to another one")
def test_workers_follow_the_server_to_another_port(place: Path) -> None:
    request_id = start(place)
    pids = parents_of(place)
    server = sheepdog.Server(dbfile=DB)
    port = server.port
    server.stop()
    with taken(port):
        server.start()
        assert server.port != port
        [secret] = (place / "home/.sheepdog").glob("*/secret.json")
        until(lambda: f":{server.port}" in secret.read_text(), "the workers are told")
        (place / "go").touch()
        assert results(request_id) == [0, 1, 2, 3, 4, 5]
    assert sorted(runs(place)) == [0, 1, 2, 3, 4, 5]  # none ran twice
    until(lambda: not set(pids) & set(parents_of(place)), "the workers have ended")


# --- who calls


@fault("Ctrl-C", "Ctrl-C during map", promise="the request goes on, and a line says how to come back")
def test_interrupt(place: Path) -> None:
    with map_elsewhere(place, start_new_session=True) as child:
        os.killpg(child.pid, signal.SIGINT)
        output, said = child.communicate(timeout=60)
    assert output == ""
    assert child.returncode == -signal.SIGINT
    found = re.search(r"^sheepdog: request 1 goes on; fetch it with (sheepdog\.get_results\(.*\))$", said, re.MULTILINE)
    assert found
    assert len(parents_of(place)) == 2
    (place / "go").touch()
    assert [result for _, result in eval(found[1], {"sheepdog": sheepdog})] == [0, 1, 2, 3, 4, 5]
    assert sorted(runs(place)) == [0, 1, 2, 3, 4, 5]


@fault("second call", "a second call with the same database file", promise="it joins the server that runs")
def test_a_second_call(place: Path) -> None:
    first = start(place)
    pid, port = sheepdog.Server(dbfile=DB).pid, sheepdog.Server(dbfile=DB).port
    assert sheepdog.map(abs, [(-1,)]) == [1]
    assert (sheepdog.Server(dbfile=DB).pid, sheepdog.Server(dbfile=DB).port) == (pid, port)
    (place / "go").touch()
    assert results(first) == [0, 1, 2, 3, 4, 5]


@fault("two clients", "two programs map at once with one database file", promise="each has its own results")
def test_two_clients_at_once(place: Path) -> None:
    code = (
        "import sys, sheepdog\nsys.stdin.read()\nn = int(sys.argv[1])\n"
        "print(sum(sheepdog.map(lambda x: x * n, [(i,) for i in range(300)], {'workers': 1})))"
    )
    pipe = subprocess.PIPE
    clients = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for n in (1, 10, 100)
    ]
    for client in clients:
        assert client.stdin
        client.stdin.close()
        client.stdin = None
    said = [client.communicate(timeout=60) for client in clients]
    assert [printed for printed, _ in said] == [f"{44850 * n}\n" for n in (1, 10, 100)]


def double(x: int) -> int:
    return 2 * x


CONTEXTS = [
    multiprocessing.get_context("fork"),
    multiprocessing.get_context("spawn"),
    multiprocessing.get_context("forkserver"),
]


def map_and_put(queue: "multiprocessing.Queue[list[int]]") -> None:
    queue.put(sheepdog.map(double, [(i,) for i in range(10)]))


@fault("fork and spawn", "map in a child process", promise="it works as in the parent, before and after it")
@pytest.mark.parametrize("context", CONTEXTS, ids=["fork", "spawn", "forkserver"])
def test_in_a_child_process(context: ForkContext | SpawnContext | ForkServerContext) -> None:
    expected = [2 * i for i in range(10)]
    assert sheepdog.map(double, [(i,) for i in range(10)]) == expected
    queue = context.Queue()
    child = context.Process(target=map_and_put, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()
    assert child.exitcode == 0
    assert sheepdog.map(double, [(i,) for i in range(10)]) == expected


def test_in_threads() -> None:
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda n: sheepdog.map(lambda x: x + n, [(i,) for i in range(20)], {"workers": 1}), range(3))
        assert list(found) == [[i + n for i in range(20)] for n in range(3)]
    assert threading.active_count() == 1


@fault("notebooks", "functions of a notebook's cells, which have no file", promise="they travel with what they use")
def test_in_a_notebook() -> None:
    """Cells are compiled under names that are no files, and run in the namespace of __main__, one after the other."""
    code = """
import linecache, sys
cells = [
    "import math\\nimport sheepdog\\nfactor = 2",
    "def helper(x):\\n    return factor * math.floor(x)",
    "class Point:\\n    def __init__(self, x): self.x = x",
    "def f(p):\\n    return Point(helper(p.x))",
    "first = [p.x for p in sheepdog.map(f, [(Point(1.5),), (Point(2.5),)], verbose=False)]",
    "factor = 3",
    "second = [p.x for p in sheepdog.map(f, [(Point(1.5),), (Point(2.5),)], verbose=False)]",
    "third = sheepdog.map(lambda: 1 / 0, [()], verbose=False)",
    "print(first, second, third)\\nprint(sheepdog.get_errors(3, './sheepdog.sqlite')[0][1].splitlines()[0])",
]
for number, cell in enumerate(cells):
    exec(compile(cell, f"<ipython-input-{number}>", "exec"), sys.modules["__main__"].__dict__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "[2, 4] [3, 6] [None]\nZeroDivisionError: division by zero\n"


def test_a_running_event_loop_is_no_obstacle() -> None:
    """As in a notebook, whose cells run in one."""
    import asyncio

    async def cell() -> list[int]:
        return sheepdog.map(double, [(1,), (2,)])

    assert asyncio.run(cell()) == [2, 4]


# --- remove


@pytest.mark.parametrize(
    "call",
    [
        "map(abs, [(1,)])",
        "map_async(abs, [(1,)])",
        "imap(abs, [(1,)])",
        "Executor().submit(abs, 1)",
        "Job(target=abs, args=(1,)).start()",
        "retry(1, 'sheepdog.sqlite')",
    ],
)
def test_a_module_that_a_worker_imports_makes_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setenv("SHEEPDOG_REQUEST_ID", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sheepdog.sqlite").write_text("x")
    (tmp_path / "unguarded.py").write_text(f"import sheepdog\ndef f(): sheepdog.{call}\nf()\n")
    words = 'the module unguarded .line 3 of .*unguarded.py. makes a request .* below `if __name__ == "__main__":`'
    with pytest.raises(NoMainGuard, match=words):
        import_module("unguarded")
