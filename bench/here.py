"""What is measured on this machine: tasks a second, time to the first result, imports, memory.

The task is always abs(number), so there is nothing to do but to carry it there and back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sheepdog
from sheepdog.deployment import LocalHost
from sheepdog.schedulers import make_scheduler

WORKERS = 2
CHUNK = 1000
TIMEOUT = 900.0  # seconds, of one child

# Run as: python -c CALL CALLS N CONFIG. The clock starts before the imports.
CALL = """
import time
start = time.perf_counter()
import json, sys
import sheepdog
seconds = []
for _ in range(int(sys.argv[1])):
    results = sheepdog.map(abs, [(-number,) for number in range(int(sys.argv[2]))], json.loads(sys.argv[3]))
    seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
assert results == list(range(len(results)))
status = open("/proc/self/status").read() if sys.platform == "linux" else ""
print(json.dumps({"seconds": seconds, "status": status}))
"""
# Run as: python -c STREAM 1 N CONFIG. Nothing here holds the tasks or the results.
STREAM = """
import time
start = time.perf_counter()
import json, sys
import sheepdog
tasks = ((-number,) for number in range(int(sys.argv[2])))
count = 0
for result in sheepdog.imap(abs, tasks, json.loads(sys.argv[3])):
    assert result == count
    count += 1
seconds = [time.perf_counter() - start]
assert count == int(sys.argv[2])
print(json.dumps({"seconds": seconds, "status": open("/proc/self/status").read()}))
"""
PARTS = {
    "from concurrent.futures import ProcessPoolExecutor": "with ProcessPoolExecutor(2) as pool:",
    "import multiprocessing": "with multiprocessing.Pool(2) as pool:",
}
EXECUTOR, POOL = (
    CALL.replace("import sheepdog", imports).replace(
        "results = sheepdog.map(abs, [(-number,) for number in range(int(sys.argv[2]))], json.loads(sys.argv[3]))",
        f"{start} results = list(pool.map(abs, [-number for number in range(int(sys.argv[2]))], "
        "chunksize=int(sys.argv[3])))",
    )
    for imports, start in PARTS.items()
)

Step = Callable[[], dict[str, float]]
"""Measures once: row -> value."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A row's median is to be at most this, or at most this much beyond another row."""

    row: str
    most: float
    beyond: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """One table. Its steps take turns, round by round; rows are compared with those named in beside."""

    title: str
    unit: str
    steps: Sequence[Step]
    beside: tuple[str, ...] = ()
    differences: bool = False
    """Compare by difference, not by ratio."""
    goals: tuple[Goal, ...] = ()


@contextlib.contextmanager
def database() -> Iterator[dict[str, Any]]:
    """Give a configuration with a database of its own. Afterwards nothing of it runs or is left."""
    with tempfile.TemporaryDirectory(prefix="sheepdog-bench-", ignore_cleanup_errors=True) as folder:
        config: dict[str, Any] = {"workers": WORKERS, "dbfile": f"{folder}/bench.sqlite", "ssh_dir": f"{folder}/jobs"}
        config["scheduler"] = "local"
        try:
            yield config
        finally:
            sheepdog.Server(dbfile=config["dbfile"]).stop()
            with sheepdog.Storage(config["dbfile"]) as storage, contextlib.suppress(ValueError):  # no such request
                for request_id in itertools.count(1):  # a worker that was not told of the end waits for a server
                    storage.get_request(request_id)
                    make_scheduler("local").cancel(LocalHost(), storage.arrays(request_id))


@contextlib.contextmanager
def latency(calls: int) -> Iterator[Measure]:
    """From submit to result, one call at a time, with workers that wait already: the median of so many calls."""

    def timed(row: str, executor: Executor) -> Step:
        def step() -> dict[str, float]:
            seconds = []
            for number in range(calls):
                start = time.perf_counter()
                result = executor.submit(abs, -number).result()
                seconds.append(time.perf_counter() - start)
                if result != number:
                    raise RuntimeError(f"{row} did not give the result")
            return {row: 1000 * statistics.median(seconds)}

        return step

    with database() as config, ProcessPoolExecutor(WORKERS) as pool, sheepdog.Executor(config) as executor:
        for each in (pool, executor):
            each.submit(abs, -1).result()
        steps = [timed("sheepdog.Executor", executor), timed("ProcessPoolExecutor", pool)]
        goals = (Goal("sheepdog.Executor", 3.0),)
        yield Measure("A call of a warm executor", "ms", steps, ("ProcessPoolExecutor",), goals=goals)


@contextlib.contextmanager
def throughput(n: int) -> Iterator[Measure]:
    """From call to last result, in this process; making the pool or starting the workers counts, the server runs."""
    numbers = range(n)
    chunk = min(CHUNK, max(1, n // WORKERS))

    def timed(row: str, run: Callable[[], list[int]]) -> Step:
        def step() -> dict[str, float]:
            start = time.perf_counter()
            results = run()
            seconds = time.perf_counter() - start
            if results != list(numbers):
                raise RuntimeError(f"{row} did not give every result")
            return {row: n / seconds}

        return step

    def executor(chunksize: int) -> list[int]:
        with ProcessPoolExecutor(WORKERS) as pool:
            return list(pool.map(abs, numbers, chunksize=chunksize))

    def pool(chunksize: int | None) -> list[int]:
        with multiprocessing.Pool(WORKERS) as pool:
            return pool.map(abs, numbers, chunksize)

    with database() as config:
        run = timed("sheepdog", lambda: sheepdog.map(abs, [(number,) for number in numbers], config))

        def warm() -> dict[str, float]:
            sheepdog.map(abs, [(1,)], config)  # the server ends when it has been idle for some time
            return run()

        steps = [
            warm,
            timed("executor, chunks of 1", lambda: executor(1)),
            timed(f"executor, chunks of {chunk}", lambda: executor(chunk)),
            timed("Pool, its own chunks", lambda: pool(None)),
            timed("Pool, chunks of 1", lambda: pool(1)),
        ]
        yield Measure(f"{n:,} tasks", "tasks/s", steps, ("executor, chunks of 1", "Pool, its own chunks"))


def first_result() -> Measure:
    """From before the import to the result of one task, in a fresh process; then once more in the same process."""

    def cold() -> dict[str, float]:
        with database() as config:
            return {"sheepdog, cold": call(CALL, 1, 1, config)["seconds"][0]}

    def warm() -> dict[str, float]:
        with database() as config:
            sheepdog.map(abs, [(1,)], config)
            first, again = call(CALL, 2, 1, config)["seconds"]
            return {"sheepdog, server running": first, "sheepdog, same process again": again}

    def executor() -> dict[str, float]:
        first, again = call(EXECUTOR, 2, 1, 1)["seconds"]
        return {"executor": first, "executor, same process again": again}

    def pool() -> dict[str, float]:
        return {"Pool": call(POOL, 1, 1, 1)["seconds"][0]}

    return Measure("Fresh process: import to first result", "s", [cold, warm, executor, pool], ("executor", "Pool"))


def imports() -> Measure:
    """Import times: a fresh interpreter with the import, less one without."""
    lines = {
        "import sheepdog": "import sheepdog",
        "... and sheepdog.map": "import sheepdog; sheepdog.map",
        "import concurrent.futures.process": "import concurrent.futures.process",
        "import multiprocessing.pool": "import multiprocessing.pool",
    }

    def interpreter(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # with a timeout it would look every 50 ms only
        return 1000 * (time.perf_counter() - start)

    def step() -> dict[str, float]:
        bare = interpreter("pass")
        return {"python -c pass": bare} | {row: interpreter(code) - bare for row, code in lines.items()}

    return Measure("Import, less a bare interpreter", "ms", [step] * 3)


def memory(n: int) -> Measure:
    """Peak memory of each process that takes part in a map over this many tasks. Linux only."""

    def road() -> dict[str, float]:
        with database() as config:
            return watched("sheepdog", [sys.executable, "-c", CALL, "1", str(n), json.dumps(config)], parts_of(config))

    def executor() -> dict[str, float]:
        command = [sys.executable, "-c", EXECUTOR, "1", str(n), str(CHUNK)]
        return watched(f"executor, chunks of {CHUNK}", command, lambda: {})

    goals = (Goal("sheepdog: submitting process, MB", 600), Goal("sheepdog: server, MB", 300))
    return Measure(f"{n:,} tasks: peak memory of each process", "", [road, executor], goals=goals)


def stream(n: int) -> Measure:
    """Memory and disk of an imap over a generator of so many tasks, and of a tenth of them. Linux only."""

    def step(n: int) -> dict[str, float]:
        row = f"{n:,} tasks"
        with database() as config:
            found = watched(row, [sys.executable, "-c", STREAM, "1", str(n), json.dumps(config)], parts_of(config))
            found[f"{row}: tasks/s"] = n / found[f"{row}: import to last result, s"]
            sizes = [Path(config["dbfile"] + end).stat().st_size for end in ("", "-wal")]
            found[f"{row}: on the disk, bytes a task"] = sum(sizes) / n
        return found

    parts = ("submitting process", "server", "worker", "worker's child")
    goals = tuple(Goal(f"{n:,} tasks: {part}, MB", 100) for part in parts)
    return Measure("imap over a generator", "", [lambda: step(n // 10), lambda: step(n)], goals=goals)


def parts_of(config: dict[str, Any], request: int = 1) -> Callable[[], dict[str, list[int]]]:
    """Return what finds the processes, beside the submitting one, of a request of a database."""

    def others() -> dict[str, list[int]]:
        server = sheepdog.Server(dbfile=config["dbfile"]).pid
        with sheepdog.Storage(config["dbfile"]) as storage, contextlib.suppress(ValueError):
            workers = [int(pid) for array in storage.arrays(request) for pid in array.job.split()]
            return {"server": [server or 0], "worker": workers, "worker's child": children_of(workers)}
        return {}

    return others


def watched(row: str, command: Sequence[str], others: Callable[[], dict[str, list[int]]]) -> dict[str, float]:
    """Run a call, and look at its processes meanwhile."""
    peaks: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            ended = False
            while not ended:
                ended = process.poll() is not None
                for kind, pids in ({"child": children_of([process.pid])} | others()).items():
                    peaks[kind] = max([peaks.get(kind, 0.0), *map(peak_of, pids)])
                time.sleep(0.1)
        except BaseException:
            process.kill()
            raise
        answer = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{row} ended with {process.returncode}")
    said = json.loads(answer)
    found = {"submitting process": peak_in(said["status"])} | peaks
    rows = {f"{row}: {kind}, MB": peak for kind, peak in found.items() if peak}
    return {f"{row}: import to last result, s": said["seconds"][0]} | rows


def call(code: str, calls: int, n: int, config: Any) -> dict[str, Any]:
    """Run one of the scripts above in a fresh interpreter."""
    command = [sys.executable, "-c", code, str(calls), str(n), json.dumps(config)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def peak_of(pid: int) -> float:
    """The most memory a process ever had resident, in MB; 0 if it has ended."""
    try:
        return peak_in(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0


def peak_in(status: str) -> float:
    # Not getrusage: on Linux its figure survives exec, so that a small child shows its large parent's.
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 / 1e6 if lines else 0.0


def children_of(pids: Sequence[int]) -> list[int]:
    found: list[int] = []
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, file.read_text().split())
    return found
