"""What a task costs: processor time by process, large values, and what is lost between short tasks. Linux only."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from here import WORKERS, Goal, Measure, Step, database, parts_of

import sheepdog

LARGE = 1 << 20  # bytes of an argument, and of its result
SHORT = 0.001  # seconds of a short task
PARTS = ("client", "server", "worker", "worker's child")


def processor_time(n: int) -> Measure:
    """Processor time of a task that does nothing, in each process: that of so many, less that of one."""

    def step() -> dict[str, float]:
        with database() as config:
            sheepdog.map(abs, [(-1,)], config)  # starts the server
            one, many = spent(config, 1, request=2), spent(config, n, request=3)
        found = {part: 1e6 * (many[part] - one[part]) / n for part in PARTS}
        return found | {"all": sum(found.values())}

    return Measure(f"{n:,} tasks: processor time of one", "us", [step], goals=(Goal("all", 20),))


@contextlib.contextmanager
def large(calls: int) -> Iterator[Measure]:
    """From the first submit to the last result of calls with 1 MB there and back: milliseconds of each."""
    values = [os.urandom(LARGE) for _ in range(calls)]

    def timed(row: str, executor: Executor) -> Step:
        def step() -> dict[str, float]:
            start = time.perf_counter()
            futures = [executor.submit(bytes, value) for value in values]
            if [future.result() for future in futures] != values:
                raise RuntimeError(f"{row} did not give every result")
            return {row: 1000 * (time.perf_counter() - start) / calls}

        return step

    with database() as config, ProcessPoolExecutor(WORKERS) as pool, sheepdog.Executor(config) as executor:
        for each in (pool, executor):
            each.submit(bytes, b"").result()
        steps = [timed("sheepdog.Executor", executor), timed("ProcessPoolExecutor", pool)]
        goals = (Goal("sheepdog.Executor", 2.5, "ProcessPoolExecutor"),)
        yield Measure("1 MB there and back", "ms", steps, ("ProcessPoolExecutor",), goals=goals)


@contextlib.contextmanager
def short(n: int) -> Iterator[Measure]:
    """From call to last result of tasks of a millisecond; as they slept is what the workers say of their tasks."""
    with database() as config:
        requests = iter(range(1, 1 << 30))

        def step() -> dict[str, float]:
            sheepdog.map(abs, [(-1,)], config)
            next(requests)
            start = time.perf_counter()
            sheepdog.map(time.sleep, [(SHORT,)] * n, config)
            seconds = time.perf_counter() - start
            with sheepdog.Storage(config["dbfile"]) as storage:
                slept = sum(outcome.seconds for outcome in storage.outcomes(next(requests), [(1, n)]))
            return {"sheepdog": seconds, "ideal": n * SHORT / WORKERS, "as they slept": slept / WORKERS}

        goals = (Goal("sheepdog", 1.25, "ideal"),)
        yield Measure(f"{n:,} tasks of a millisecond", "s", [step], ("ideal", "as they slept"), goals=goals)


def spent(config: dict[str, Any], n: int, request: int) -> dict[str, float]:
    """Return the seconds of processor time of each part, for a map of so many tasks, which is this request."""
    others, ended = parts_of(config, request), threading.Event()
    first: dict[tuple[str, int], float] = {}
    last: dict[tuple[str, int], float] = {}

    def watch() -> None:
        while True:
            for part, pids in others().items():
                for pid in pids:
                    last[part, pid] = max(last.get((part, pid), 0.0), seconds_of(pid))
                    first.setdefault((part, pid), last[part, pid] if part == "server" else 0.0)
            if ended.wait(0.02):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.thread_time()
    sheepdog.map(abs, [(-number,) for number in range(n)], config)
    found: defaultdict[str, float] = defaultdict(float, client=time.thread_time() - start)
    ended.set()
    watcher.join()
    for (part, pid), seconds in last.items():
        found[part] += seconds - first[part, pid]
    return found


def seconds_of(pid: int) -> float:
    """The processor time that a process has had; 0 if it has ended."""
    nanoseconds = 0
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9
