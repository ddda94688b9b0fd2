"""The child, seen from the parent: tasks there and outcomes back, whatever becomes of it."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import DIED, RAISED, RESULT
from sheepdog.client.child.pipe import NO_PIPE
from sheepdog.schedulers.archives import cloudpickle_archive
from tests.client.children import Start, alive, death, function_with, give, outcomes
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


@pytest.mark.parametrize(
    ("call", "how"),
    [
        (("signal", signal.SIGSEGV), "was killed by signal 11 (SIGSEGV)"),
        (("signal", signal.SIGKILL), "was killed by signal 9 (SIGKILL)"),
        (("signal", 40), "was killed by signal 40 (?)"),
        (("exit", 0), "exited with status 0"),
        (("exit", 3), "exited with status 3"),
    ],
)
@fault(
    (6, 29),
    "a task's process is killed by a signal, or exits by itself",
    promise="its error names the signal or status; the tasks behind it run elsewhere",
)
def test_a_task_that_ends_its_process_is_named_and_the_others_are_left(start: Start, call: Any, how: str) -> None:
    child = start()
    give(child, ("a",), call, ("b",), ("c",))
    what, outcome, left, before = death(child)
    assert what == how
    assert [each.task for each in before] == [1]
    assert outcome is not None
    assert (outcome.task, outcome.kind) == (2, DIED)
    assert outcome.value.decode() == f"the task's process {how} before the function returned"
    assert [(index, attempt) for index, attempt, _ in left] == [(3, 1), (4, 1)]
    another = start()
    another.give(left)
    assert [task for task, _, _ in outcomes(another, 2)] == [3, 4]


@fault("stdout closed", "a task has closed all files of its process, the worker's too", promise="its error says so")
def test_a_child_that_cannot_report_any_more_is_said_to_have_closed_its_files(start: Start) -> None:
    child = start()
    give(child, ("exit", NO_PIPE))
    _, outcome, _, _ = death(child)
    assert outcome is not None
    text = "the task's process closed all its files, the worker's too: the outcome was lost"
    assert (outcome.kind, outcome.value.decode()) == (DIED, text)


def test_sys_exit_is_the_tasks_error_not_the_childs_end(start: Start) -> None:
    child = start()
    give(child, ("sys.exit", 3), ("sys.exit", "so"), ("a",))
    (_, kind, text), (_, _, other), last = outcomes(child, 3)
    assert (kind, text.splitlines()[0], other.splitlines()[0]) == (RAISED, b"SystemExit: 3", b"SystemExit: so")
    assert last[:2] == (3, RESULT)


def test_a_child_that_dies_before_any_task_leaves_them_all(start: Start) -> None:
    child = start()
    os.kill(child.pid, signal.SIGKILL)
    give(child, ("a",), ("length", b"x" * 10**6), ("b",))  # more than a pipe holds
    what, outcome, left, before = death(child)
    assert (what, outcome, before) == ("was killed by signal 9 (SIGKILL)", None, [])
    assert [index for index, _, _ in left] == [1, 2, 3]


@fault(
    (30, "processes left"),
    "a task's process is killed and leaves one that holds its pipes",
    promise="its end is noticed all the same",
)
def test_the_end_of_a_child_is_noticed_though_it_left_a_process_behind(start: Start, tmp_path: Path) -> None:
    """As when multiprocessing's parent is killed for its memory: its workers hold the pipes."""
    child = start()
    give(child, ("orphan", str(tmp_path / "orphan")))
    try:
        what, outcome, _, _ = death(child, seconds=5)
        assert what == "was killed by signal 9 (SIGKILL)"
        assert outcome is not None
    finally:
        until((tmp_path / "orphan").read_text, "the orphan has started")
        os.kill(int((tmp_path / "orphan").read_text()), signal.SIGKILL)


@fault((30, "processes left"), "a task's process is killed and leaves programs running", promise="they are ended too")
def test_what_a_dead_child_started_is_ended_too(start: Start, tmp_path: Path) -> None:
    script = "import os, signal, subprocess\ndef f():\n p = subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3)\n"
    script += " open({!r}, 'w').write(str(p.pid))\n os.kill(os.getpid(), signal.SIGKILL)".format(str(tmp_path / "pid"))
    child = start(function_with({}, script))
    give(child, ())
    death(child)
    pid = int((tmp_path / "pid").read_text())
    try:
        until(lambda: not alive(pid), "the process is gone", timeout=3)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_tasks_not_started_can_be_recalled(start: Start, tmp_path: Path) -> None:
    child = start()
    go = tmp_path / "go"
    give(child, ("write", str(tmp_path / "here")), ("wait for", str(go)), ("a",), ("b",))
    assert [task for task, _, _ in outcomes(child, 1)] == [1]
    until(lambda: len(child.running) == 3 and (tmp_path / "here").exists(), "the first has run")
    time.sleep(0.05)  # the second begins; if it does not, all three come back, and the test is none
    back = child.recall()
    assert [index for index, _, _ in back] in ([3, 4], [2, 3, 4])
    assert child.recall() == []
    go.touch()
    rest = [2] if len(back) == 2 else []
    assert [task for task, _, _ in outcomes(child, len(rest))] == rest
    give(child, ("c",), first=9)
    assert [task for task, _, _ in outcomes(child, 1)] == [9]


def test_a_recalled_task_is_not_run_however_late_the_child_looks(start: Start, tmp_path: Path) -> None:
    child = start()
    begin, go = tmp_path / "begin", tmp_path / "go"
    give(child, ("wait for", str(begin)), ("slow to take the next", str(go)), ("recalled",), ("recalled",))
    begin.touch()
    assert [task for task, _, _ in outcomes(child, 2)] == [1, 2]
    assert [index for index, _, _ in child.recall()] == [3, 4]
    give(child, ("new",), first=9)
    go.touch()
    assert outcomes(child, 1, seconds=5) == [(9, RESULT, pickle.dumps("new", 4))]


def test_large_values_there_and_back(start: Start) -> None:
    child = start()
    size = 20_000_000
    give(child, ("length", b"x" * size), ("large", size), ("a",))
    first, second, third = outcomes(child, 3)
    assert pickle.loads(first[2]) == size
    assert pickle.loads(second[2]) == b"x" * size
    assert third == (3, RESULT, pickle.dumps("a", 4))


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
    command = [sys.executable, "-c", script, when, tmp_path / "file", tmp_path]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE).stdout)
    try:
        until(lambda: not alive(pid), "the child is gone", timeout=5)
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
