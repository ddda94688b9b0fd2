"""The child, seen from the parent: tasks there and outcomes back, whatever becomes of it."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.client import RAISED, RESULT
from sheepdog.schedulers.archives import cloudpickle_archive
from tests.client.children import Start, alive, death, give, outcomes
from tests.faults import fault
from tests.waiting import until


def test_tasks_run_in_order(start: Start) -> None:
    child = start()
    give(child, ("a",), ("raise", "so"), ("b",))
    first, second, third = outcomes(child, 3)
    assert first == (1, RESULT, pickle.dumps("a", 4))
    assert second[:2] == (2, RAISED)
    assert second[2].partition(b"\0")[0].decode().splitlines()[:2] == [
        "ValueError: so",
        "Traceback (most recent call last):",
    ]
    assert b"sheepdog/client/" not in second[2]
    assert third == (3, RESULT, pickle.dumps("b", 4))
    assert not child.running
    give(child, ("c",), first=7)
    assert outcomes(child, 1) == [(7, RESULT, pickle.dumps("c", 4))]


def test_sys_exit_is_the_tasks_error_not_the_childs_end(start: Start) -> None:
    child = start()
    give(child, ("sys.exit", 3), ("sys.exit", "so"), ("a",))
    (_, kind, text), (_, _, other), last = outcomes(child, 3)
    assert (kind, text.splitlines()[0], other.splitlines()[0]) == (RAISED, b"SystemExit: 3", b"SystemExit: so")
    assert last[:2] == (3, RESULT)


@pytest.mark.parametrize("when", ["at once", "in the midst of a task"])
@fault(5, "a worker is killed with -9 while a task runs", promise="the task's process ends with it")
def test_a_child_ends_with_its_parent(tmp_path: Path, when: str) -> None:
    script = """
import os, pickle, sys, time
from sheepdog.client.parent.child import Child
from sheepdog.serialisation import serialise_function
def f(file):
    open(file, "w").close()
    time.sleep(60)
(when, file), zip = sys.argv[1:3], sys.argv[3]
child = Child({"directory": zip, "request": 1, "max_value": 1}, *serialise_function(f))
child.give([(1, 1, pickle.dumps(((file,), {})))])
print(child.pid, flush=True)
while when != "at once" and not os.path.exists(file):
    time.sleep(0.005)
os.kill(os.getpid(), 9)
"""
    (tmp_path / "cloudpickle.zip").write_bytes(cloudpickle_archive())
    command = [sys.executable, "-c", script, when, str(tmp_path / "file"), str(tmp_path)]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE).stdout)
    try:
        until(lambda: not alive(pid), "the child is gone")
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_no_descriptor_is_left(start: Start) -> None:
    before = os.listdir("/proc/self/fd")
    killed, died = start(), start()
    give(died, ("exit", 1))
    death(died)
    killed.kill()
    assert os.listdir("/proc/self/fd") == before


def test_a_child_inherits_nothing_of_the_parents(start: Start) -> None:
    def f() -> list[str]:
        import os

        return [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ]

    with open("/etc/passwd") as secret:
        child = start(f)
        give(child, ())
        [(_, _, data)] = outcomes(child, 1)
        assert secret.name not in pickle.loads(data)
