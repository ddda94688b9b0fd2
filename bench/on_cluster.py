"""What is measured on the test cluster: from call to last result on 8 slots, beside a bare qsub."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from here import CALL, TIMEOUT, Goal, Measure, Step

SLOTS = 8
SSH = "ssh head qsub -sync y"
QSUB = "on head: qsub -sync y"
JOB = ["qsub", "-sync", "y", "-b", "y", "-o", "/dev/null", "-e", "/dev/null", "/usr/bin/python3", "-c", "pass"]

# Run as: python -c TIMED COMMAND...
TIMED = """
import subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(time.perf_counter() - start)
"""
LOG_OUT = "from sheepdog.deployment import make_host; make_host('head', None, None, None).close()"
STOP = "import sys, sheepdog; sheepdog.Server(dbfile=sys.argv[1]).stop()"


@contextlib.contextmanager
def cluster_calls(numbers: Sequence[int]) -> Iterator[Measure]:
    """Each call in a fresh process outside; the queue is empty before. The server runs, except for the first."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.cluster import Cluster, unavailable, until

    reason = unavailable()
    if reason:
        raise SystemExit(reason)
    with Cluster() as cluster:
        dbfile = f"{cluster.home}/bench.sqlite"
        config: dict[str, Any] = {"host": "head", "dbfile": dbfile, "workers": SLOTS, "localhost": "outside"}
        config["shell"] = "/opt/python/bin/python3"

        def python(host: str, user: str, executable: str, *words: str) -> str:
            until(lambda: not cluster.on("head", ["qstat", "-u", "*"]).stdout, "the queue is empty", 60)
            return cluster.on(host, [executable, "-c", *words], user, timeout=TIMEOUT).stdout

        def outside(*words: str) -> str:
            return python("outside", "root", sys.executable, *words)

        def call(row: str, n: int) -> Step:
            return lambda: {row: json.loads(outside(CALL, "1", str(n), json.dumps(config)))["seconds"][0]}

        def cold() -> dict[str, float]:
            outside(STOP, dbfile)
            outside(LOG_OUT)
            return call("sheepdog, 1 task, login and server too", 1)()

        steps: list[Step] = [
            lambda: {SSH: float(outside(TIMED, "ssh", "head", *JOB))},
            cold,
            *(call(f"sheepdog, {n:,} task{'s' * (n > 1)}", n) for n in numbers),
            lambda: {QSUB: float(python("head", "sheep", "/opt/python/bin/python3", TIMED, *JOB))},
        ]
        goals = (
            Goal("sheepdog, 1 task, login and server too", 1.5, beyond=SSH),
            Goal("sheepdog, 1 task", 1.5, beyond=SSH),
            Goal("sheepdog, 10,000 tasks", 15),
        )
        try:
            yield Measure(f"Test cluster, {SLOTS} slots: call to last result", "s", steps, (SSH, QSUB), True, goals)
        finally:
            outside(STOP, dbfile)
