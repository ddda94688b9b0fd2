"""Faults of this machine and of whoever calls, on local processes: the clock, the disk, locks, forks, notebooks."""

import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from tests.faults import fault
from tests.local import DB, ROOT, errors

pytestmark = pytest.mark.usefixtures("place")


REQUEST_SAID = r"(?m)^sheepdog: request \d+, in .*\n"


def start(script: str, **env: str) -> "subprocess.Popen[str]":
    """Start a program of a user's."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env})


def end(program: "subprocess.Popen[str]", seconds: float = 60) -> str:
    """Wait for the program's end, and return what it printed."""
    output, said = program.communicate(timeout=seconds)
    assert (program.returncode, re.sub(REQUEST_SAID, "", said)) == (0, "")
    return output


def each_ran_once(file: Path, tasks: int) -> bool:
    return Counter(file.read_text().split()) == Counter(str(i) for i in range(tasks))


# The server


CROWD = r"""
import asyncio, resource, ssl, sys, time
sys.path.insert(0, sys.argv[1])
from sheepdog import client
from sheepdog.storage import Storage
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
count = int(sys.argv[2])
with Storage("./sheepdog.sqlite") as storage:
    context = ssl.create_default_context(cadata=storage.get_setting("certificate"))
    port, token = storage.get_setting("port"), storage.get_request(1).token
context.check_hostname = False

async def call(streams, verb, header):
    body = client.pack(header, [])
    head = f"POST /requests/1/{verb} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    head += "Content-Type: application/x-sheepdog\r\n"
    streams[1].write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await streams[1].drain()
    answer = (await streams[0].readuntil(b"\r\n\r\n")).decode().lower()
    await streams[0].readexactly(int(answer.partition("content-length: ")[2].split()[0]))
    return answer.split()[1]

async def worker(number):
    begin = time.monotonic()
    while True:
        try:
            return await try_once(number), time.monotonic() - begin
        except (EOFError, OSError):  # it had to make room for others, and comes again, as workers do
            await asyncio.sleep(1)

async def try_once(number):
    streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, ssl_handshake_timeout=60)
    about = {"worker": f"w{number}", "host": "h", "element": str(number), "python": client.describe_python()}
    found = [await call(streams, "join", {**about, "protocol": client.PROTOCOL})]
    header = {**about, "call": 1, "want": 1, "holding": [], "outcomes": []}
    found.append(await call(streams, "exchange", header))
    streams[1].close()
    return found

async def crowd():
    answers = await asyncio.gather(*map(worker, range(count)))
    print({status for found, _ in answers for status in found}, max(seconds for _, seconds in answers) < 60)

asyncio.run(crowd())
"""


@fault(
    50, "a thousand workers that come at once", promise="all are let in and get a task, sooner than they would give up"
)
def test_thousand_workers_at_once() -> None:
    assert sheepdog.map_async(time.sleep, [(600,)] * 3000, {"workers": 1}) == 1
    done = subprocess.run([sys.executable, "-c", CROWD, str(ROOT / "src"), "1000"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{'200'} True\n", "")


@fault(
    53,
    "results that name classes, which an unpickler would import",
    promise="the server's process loads no pickle at all",
)
def test_server_loads_no_pickle(place: Path) -> None:
    (place / "sitecustomize.py").write_text(
        "import sys\n"
        "who = 'server' if 'serve' in sys.orig_argv else 'others'\n"
        "def note(event, args):\n"
        "    if event == 'pickle.find_class': open(f'{who}.loaded', 'a').close()\n"
        "sys.addaudithook(note)\n"
        "open(f'{who}.hooked', 'a').close()\n"
    )
    script = """
        import collections, sheepdog
        print(sheepdog.map(lambda x: collections.Counter(x), [("a",), (1,)], verbose=False))
    """
    assert end(start(script, PYTHONPATH=str(place))) == "[Counter({'a': 1}), None]\n"
    assert sheepdog.Server(dbfile=DB).running
    assert (place / "server.hooked").exists()
    assert (place / "others.loaded").exists()
    assert not (place / "server.loaded").exists()


# The machine


@fault((20, "clock jumps"), "the clock of server and workers jumps by a day, again and again", promise="nobody notices")
def test_clock_that_jumps(place: Path) -> None:
    """What time.time() says; monotonic clocks do not jump."""
    (place / "sitecustomize.py").write_text(
        "import time\n"
        "def jumping(real=time.time): return real() + 86400 * (int(real() * 20) % 3 - 1)\n"
        "time.time = jumping\n"
    )
    script = f"""
        import sys, time
        sys.path.insert(0, {str(ROOT)!r})
        import sheepdog
        from tests.tasks import sleepy
        def clock(i): return i, time.time.__name__
        assert set(sheepdog.map(clock, [(0,)])) == {{(0, "jumping")}}
        args = [(i, {str(place / "ran")!r}) for i in range(1000)]
        print(sheepdog.map(sleepy, args, {{"lease": 1, "workers": 2}}) == [i * i for i in range(1000)])
    """
    assert end(start(script, PYTHONPATH=str(place))) == "True\n"
    assert each_ran_once(place / "ran", 1000)
    assert "is lost" not in Path(f"{DB}-server.log").read_text()


# Whoever calls


@fault("two clients", "two programs call map with one database at once", promise="one server; each has its own results")
def test_two_clients_at_once() -> None:
    script = """
        import os, sheepdog
        print(sheepdog.map(lambda i: i + {0}, [(i,) for i in range(200)], {{"workers": 1}}) == [*range({0}, {0} + 200)])
        print(sheepdog.Server(dbfile="./sheepdog.sqlite").pid)
    """
    said = [end(client).split() for client in [start(script.format(first)) for first in (1000, 2000, 3000)]]
    assert [right for right, _ in said] == ["True"] * 3
    assert len({pid for _, pid in said}) == 1


@fault(
    "second call", "a second call with the same database while the first runs", promise="it joins the running server"
)
def test_second_call_joins_the_running_server(place: Path) -> None:
    def f(file: str) -> str:
        while not os.path.exists(file):
            time.sleep(0.01)
        return file

    first = sheepdog.map_async(f, [(str(place / "go"),)])
    server = sheepdog.Server(dbfile=DB).pid
    assert sheepdog.map(abs, [(-1,), (-2,)]) == [1, 2]
    assert sheepdog.Server(dbfile=DB).pid == server
    (place / "go").touch()
    assert sheepdog.get_results(first, DB) == [((str(place / "go"),), str(place / "go"))]


def map_in_a_process(results: "multiprocessing.SimpleQueue[list[int]]") -> None:
    results.put(sheepdog.map(lambda x: x * 2, [(i,) for i in range(20)], {"workers": 1}))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@fault("fork and spawn", "map called in processes that multiprocessing has made", promise="it works as anywhere else")
def test_map_in_a_process_of_multiprocessing(method: str) -> None:
    assert sheepdog.map(abs, [(-1,)]) == [1]  # whatever this opens is there when it forks
    context: Any = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    processes = [context.Process(target=map_in_a_process, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get() for _ in processes] == [[2 * i for i in range(20)]] * 2
    for process in processes:
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
@fault("fork and spawn", "a task that uses multiprocessing", promise="it works as anywhere else")
def test_task_that_uses_multiprocessing(method: str) -> None:
    def f(method: str, x: int) -> int:
        import multiprocessing

        with multiprocessing.get_context(method).Pool(2) as pool:
            return sum(pool.map(abs, range(x)))

    assert sheepdog.map(f, [(method, 3), (method, 4)], {"workers": 1}) == [3, 6], errors(1)


CELLS = [
    "import sheepdog\n",
    "factor = 2\n",
    "def f(x):\n    return g(x) * factor\n",
    "def g(x):\n    return x + 1\n",
    "results = sheepdog.map(f, [(1,), (2,)], {'workers': 1})\n",
    "factor = 10\n",
    "results += sheepdog.map(f, [(1,)], {'workers': 1})\n",
    "request = sheepdog.map_async(lambda x: 1 / x, [(0,), (1,)], {'workers': 1})\n",
    "results += [result for _, result in sheepdog.get_results(request, './sheepdog.sqlite')]\n",
    "import asyncio\nasync def later():\n    return sheepdog.map(f, [(0,)], {'workers': 1})\n",
    "results += asyncio.run(later())\n",
]


@fault(
    "notebooks", "functions made in cells, changed between calls, with an event loop running", promise="as in a script"
)
def test_cells_of_a_notebook() -> None:
    """Cells as a notebook's kernel runs them: they have no file, and their names are those of __main__."""
    script = f"""
        import code, __main__
        console = code.InteractiveInterpreter(vars(__main__))
        for number, cell in enumerate({CELLS!r}):
            console.runcode(compile(cell, f"<cell {{number}}>", "exec"))
        print(results)
    """
    assert end(start(script)) == "[4, 6, 20, None, 1.0, 10]\n"


# The function


@fault(
    "binary output",
    "a task that prints bytes of every kind",
    promise="its error shows them as text; others are not hurt",
)
def test_binary_output() -> None:
    def f(x: int) -> float:
        os.write(1, bytes(range(256)) * 3)
        return 1 / x

    assert sheepdog.map(f, [(1,), (0,), (2,)], {"workers": 1}, verbose=False) == [1.0, None, 0.5]
    [error] = errors(1)
    assert error.startswith("ZeroDivisionError")
    assert "The end of its output:" in error
    assert "ABCDEFG" in error
    assert "\ufffd" in error
