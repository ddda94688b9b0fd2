"""The executor on real clusters."""

from pathlib import Path

import pytest

from tests.faults import fault
from tests.on_cluster.programs import run
from tests.user import User

CPYTHON = """
from tests.front.cpython_executor import passes, suite
passed = passes(suite({directory!r}, C, [{name!r}]))
print()  # behind the times that they print
show(passed)
"""


@pytest.mark.parametrize("name", ["ExecutorTest", "AsCompletedTests"])
def test_cpythons_tests(name: str, cpython_tests: Path, user: User) -> None:
    """A part of what tests/front/test_executor.py runs here: on other hosts, whose Python has no tests."""
    assert user.run(CPYTHON.format(directory=str(cpython_tests), name=name), timeout=170), user.said


LIFE = """
def who(_):
    import os, socket, time
    time.sleep(0.2)
    return [socket.gethostname(), os.getppid()]
with sheepdog.Executor(C, workers=4) as executor:
    first = executor.submit(divmod, 1, 0).exception()
    seen = [list(executor.map(who, range(8))) for _ in range(3)]
    number = executor.request_id
with Storage(DB) as storage:
    jobs = [array.workers for array in storage.arrays(number)]
show([type(first).__name__, str(first.__cause__).splitlines()[1], sum(seen, []), jobs])
"""


@pytest.mark.parametrize("batch", ["user", "slurm_user"])
def test_one_array_job(batch: str, request: pytest.FixtureRequest) -> None:
    """Its workers run all calls, on both nodes; then the queue is empty."""
    user: User = request.getfixturevalue(batch)
    error, place, seen, jobs = user.run(LIFE)
    assert error == "ZeroDivisionError"
    assert "on node" in place
    assert len({tuple(each) for each in seen}) <= 4
    assert {host for host, _ in seen} <= {"node1", "node2"}
    assert jobs == [4]


IDLE = """
def nap(seconds):
    import time
    time.sleep(seconds)
    return seconds
executor = sheepdog.Executor({**C, "idle_time": 1}, workers=2)
assert executor.submit(nap, 0).result() == 0
end = time.monotonic() + 60
while subprocess.run(["ssh", "head", "qstat"], capture_output=True, text=True).stdout:
    assert time.monotonic() < end
    time.sleep(0.1)
show([executor.submit(nap, 0.5).result(90), executor.shutdown()])
"""


def test_workers_that_were_idle_are_submitted_again(user: User) -> None:
    assert user.run(IDLE, timeout=170) == [0.5, None]


KILL = """
def die_once():
    import os, signal, time
    if os.environ["SHEEPDOG_ATTEMPT"] == "1":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return os.environ["SHEEPDOG_ATTEMPT"]
with sheepdog.Executor({**C, "lease": 8}, workers=2) as executor:
    show([executor.submit(die_once).result(120), executor.submit(pow, 2, 3).result(120)])
"""


def test_a_worker_that_is_killed(user: User) -> None:
    """Its call runs again elsewhere."""
    assert user.run(KILL, timeout=170) == ["2", 8]


@fault(
    "qdel all", "an executor's array job is deleted", promise="its calls are cancelled; later ones run on new workers"
)
@pytest.mark.parametrize(("batch", "delete"), [("user", "qdel"), ("slurm_user", "scancel")])
def test_its_array_job_is_deleted(batch: str, delete: str, request: pytest.FixtureRequest) -> None:
    """Twice: while calls run and wait, then while nobody calls."""
    code = f"""
        import concurrent.futures
        def note_of(request_id=1):
            with Storage(DB) as storage: return storage.progress(request_id).note
        with sheepdog.Executor(dict(C, resubmissions=0), workers=4) as executor:
            first = executor.submit(note, 2, 0).result()
            calls = [executor.submit(note, i, 5) for i in range(20)]
            until(lambda: sum(call.running() for call in calls) >= 4)
            head({delete!r}, job())
            concurrent.futures.wait(calls)
            ends = {{str(error) for error in (call.exception() for call in calls) if error}}
            second = executor.submit(note, 3, 0).result(), job(), arrays()
            head({delete!r}, job())
            until(lambda: "was deleted" in note_of())
            show([first, *second, sorted(ends), executor.submit(note, 4, 0).result()])
    """
    first, second, job, arrays, ends, third = run(request.getfixturevalue(batch), code)
    assert (first, second, arrays, third) == (4, 9, 2, 16)
    assert len(ends) == 1
    assert ends[0].endswith(f"was deleted ({delete})")
    assert f"array job {job} " not in ends[0]
