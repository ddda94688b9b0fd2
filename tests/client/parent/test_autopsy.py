"""How a child ended, and what it left."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import DIED, TIMEOUT
from sheepdog.client.child.pipe import NO_PIPE
from tests.client.children import Start, alive, death, function_with, give, outcomes
from tests.faults import fault
from tests.waiting import until

pytestmark = pytest.mark.slow


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
        until(lambda: not alive(pid), "the process is gone")
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("call", "number", "status"),
    [(("signal", signal.SIGSEGV), 11, None), (("exit", 3), 0, 3), (("exit", 0), 0, 0), (("exit", NO_PIPE), 0, None)],
)
def test_the_signal_and_the_exit_status_are_numbers(start: Start, call: Any, number: int, status: int | None) -> None:
    child = start()
    give(child, call)
    _, outcome, _, _ = death(child)
    assert (outcome.signal, outcome.status) == (number, status)
    assert outcome.peak > 1 << 20


def test_a_task_that_is_ended_has_the_signal_that_ended_it(start: Start, tmp_path: Path) -> None:
    child, begun = start(), tmp_path / "begun"
    give(child, ("wait for", "/nonexistent", str(begun)))
    until(begun.exists, "the task has begun")
    child.terminate(TIMEOUT, "it took too long")
    _, outcome, _, _ = death(child)
    assert (outcome.kind, outcome.value, outcome.signal) == (TIMEOUT, b"it took too long", signal.SIGTERM)
