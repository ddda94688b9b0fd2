"""Programs that a user runs outside the cluster, and what their tasks leave there."""

import json
import re
import subprocess
import textwrap
from typing import Any

from tests.bundle.projects import write
from tests.cluster import Program
from tests.user import User

RUN = """
    def note(i, seconds):  # runs, and leaves a line for each run
        import os, time
        line = f"{i} {os.environ['SHEEPDOG_ATTEMPT']} {os.uname().nodename}\\n"
        with open(os.path.expanduser("~/ran"), "a") as file: file.write(line)
        time.sleep(seconds)
        return i * i
    def attempts(request_id=1):
        with Storage(DB) as storage:
            return [[a.task, a.attempt, a.kind.name, a.value.decode()] for a, _ in storage.attempts(request_id)]
    def arrays(request_id=1):
        with Storage(DB) as storage: return len(storage.arrays(request_id))
    def job(request_id=1):
        with Storage(DB) as storage: return storage.arrays(request_id)[-1].job
    def qstat(): return subprocess.run(["ssh", "head", "qstat"], capture_output=True, text=True).stdout
    def head(*command): return subprocess.run(["ssh", "head", *command], capture_output=True, text=True).stdout
    def states(): return head("squeue", "-h", "-r", "-o", "%T").split()  # of Slurm
    def until(condition, seconds=90):
        start = time.monotonic()
        while not condition():
            waited = time.monotonic() - start
            assert waited < seconds, (qstat(), open(DB + "-server.log").read()[-3000:])
            time.sleep(min(0.5, 0.1 + waited / 10))
    def results(request_id=1): return [result for _, result in sheepdog.get_results(request_id, DB)]
"""

SETUP = """
    C.update(workers=1, cpus=2, setup=["export LOADED='on a node'"], env={"GIVEN": "for a task"})
    names = ("LOADED", "GIVEN", "OMP_NUM_THREADS")
    look = lambda: [*map(os.environ.get, names), open(f"/proc/{os.getppid()}/environ").read()]
    [*found, begun_with] = sheepdog.map(look, [()], C)[0]
    show([found, "LOADED" in begun_with, "GIVEN" in begun_with])
"""
"""What a worker was told by its job file, and what by way of the secret, which others do not see."""

OWN = {
    "sim/__init__.py": "import sim.state\nfrom sim.state import DT, State, step\n",
    "sim/table.csv": "3",
    "sim/plots.py": """
        import os
        if "SHEEPDOG_REQUEST_ID" in os.environ:
            import no_such_package
        class Plot: pass
    """,
    "sim/state.py": """
        import dataclasses, multiprocessing, pathlib, threading
        import sim, sim.plots, sheepdog
        DT, LOCK = 1.0, threading.Lock()
        @dataclasses.dataclass(slots=True)
        class State:
            x: float
            def advance(self):
                with LOCK: return State(self.x + DT)
        def step(s):
            assert (pathlib.Path(__file__).parent / "table.csv").read_text() == "3"
            with multiprocessing.get_context("fork").Pool(1) as pool: return pool.map(State.advance, [s])[0]
        def plot(): return sim.plots.Plot()
    """,
    "late.py": "def f(x): return x + 1\n",
}


def own_modules(user: User) -> None:
    """Use own modules of which the nodes have nothing.

    With the state of each call, a pool in a task, a file beside a module, a module that cannot be imported there, and
    one that comes later.
    """
    write(user.place / "own", OWN)
    code = """
        sys.path.insert(0, "own")
        import sim
        def loop(step):
            s = sim.State(0.)
            for sim.state.DT in (1.0, .5, .25): s = step(s)
            return [s.x, type(s) is sim.State]
        found = [loop(lambda s: sheepdog.map(sim.step, [(s,)], C)[0])]
        with sheepdog.Executor(C, workers=2) as executor:
            found.append(loop(lambda s: executor.submit(sim.step, s).result()))
            import late
            found.append([*executor.map(late.f, range(5))])
        found.append(type(sheepdog.map(sim.state.plot, [()], C)[0]) is sim.plots.Plot)
        show(found)
    """
    assert run(user, code) == [[1.75, True], [1.75, True], [1, 2, 3, 4, 5], True]
    assert user.said.count(" sent to head") == 1
    names = user.sh("head", "ls .sheepdog/bundles").split()
    assert [len(name) for name in names] == [64, 64]


def program(code: str) -> str:
    return textwrap.dedent(RUN) + textwrap.dedent(code)


def run(user: User, code: str, timeout: float = 180) -> Any:
    return user.run(program(code), timeout)


def main_job(user: User, **options: list[str]) -> Any:
    """Run a function; with these options one that takes names along; and with them ask where tasks run."""
    code = f"""
        constant = 12
        def g(x): return x * 2
        def h(a, b): return a + g(b) + constant
        opts = {{**C, **{options!r}}}
        first = sheepdog.map(f, [(1, 1), (1, 2), (2, 2)], C)
        second = sheepdog.map(h, [(1, 2), (2, 3), (3, 4)], opts, {{"g": g, "constant": 12}})
        hosts = sheepdog.map(lambda: __import__("socket").gethostname(), [()] * 5, opts)
        show([first, second, hosts])
    """
    return run(user, code)


def cancel_most(user: User) -> tuple[int, list[Any], list[str]]:
    """Cancel thirty tasks when five are done; say how many that ended, and what is in the store when all is gone."""
    code = """
        C.update(workers=20)
        request_id = sheepdog.map_async(note, [(i, 0 if i < 5 else 300) for i in range(30)], C)
        def done():
            with Storage(DB) as storage: return storage.progress(request_id).done
        until(lambda: done() == 5)
        count = sheepdog.cancel(request_id, DB)
        until(lambda: not qstat())
        show([count, results(), errors()])
    """
    count, results, errors = run(user, code)
    return count, results, errors


def what_is_left(user: User) -> list[list[str]]:
    """Return the files of array jobs on the head node: after a request that went well, after one with failures, when
    that is removed, and when others are one day old and three, and two is the limit.
    """
    code = """
        C.update(workers=2, keep="2d")
        def left():
            found = head("find .sheepdog -type f ! -path '*/archives/*'").split()
            return sorted(path.rpartition("/")[2] for path in found)
        def is_tidy():
            with Storage(DB) as storage:
                return not storage.db.execute("SELECT 1 FROM job_directory WHERE state != 1").fetchall()
        def pause():
            until(is_tidy)
            sheepdog.Server(dbfile=DB).stop()
        divide = lambda i: 1 // i
        sheepdog.map(f, [(1, 1), (1, 2)], C)
        until(is_tidy)
        found = [left()]
        sheepdog.map(divide, [(0,), (1,)], C)
        until(is_tidy)
        found.append(left())
        sheepdog.remove(2, DB)
        found.append(left())
        for _ in range(2):
            sheepdog.map(divide, [(0,), (1,)], C)
        pause()
        for number, days in ((3, 1), (4, 3)):
            head(f"find .sheepdog/*_00{number}_* -exec touch -d '{days} days ago' {{}} +")
        sheepdog.map(f, [(1, 1)], C)
        pause()
        found.append(left())
        assert len(head("ls .sheepdog/archives").split()) == 2
        show(found)
    """
    found: list[list[str]] = run(user, code, 300)
    return found


def start(user: User, code: str) -> Program:
    return user.start(program(code), stdout=subprocess.PIPE)


def shown(client: Program) -> Any:
    output, _ = client.communicate(timeout=180)
    return json.loads(re.findall(r"^shown:(.*)$", output, re.MULTILINE)[-1])


def ran_so_far(user: User) -> list[list[str]]:
    path = user.cluster.home_of("sheep") / "ran"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def log_of(user: User) -> str:
    return (user.place / "sheepdog.sqlite-server.log").read_text()
