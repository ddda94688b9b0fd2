"""Warnings of the scheduler: the worker leaves."""

import os
import pickle
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import INTERRUPTED
from tests.client.shepherd import WAIT_FOR, FakeServer, Shepherd
from tests.faults import fault
from tests.waiting import until

pytestmark = pytest.mark.slow


def warned(shepherd: Shepherd, server: FakeServer, worker: subprocess.Popen[bytes], *numbers: int) -> dict[str, Any]:
    """Send signals, and wait until the worker has called; return that call."""
    before = len(server.calls)
    for number in numbers:
        worker.send_signal(number)
    until(lambda: any(call["leaving"] for call in server.calls[before:]), "the worker says that it leaves", 5)
    return next(call for call in server.calls if call["leaving"])


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([signal.SIGUSR1], "SIGUSR1 from the scheduler (to be suspended, or its time is nearly over)"),
        ([signal.SIGUSR2, signal.SIGUSR2], "SIGUSR2 from the scheduler (deleted, or its time was over)"),
        ([signal.SIGTERM], "SIGTERM (deleted, or its time was over)"),
        ([signal.SIGXCPU] * 5, "SIGXCPU (a soft limit of processor time or memory was passed)"),
        ([signal.SIGCONT, signal.SIGUSR1], "SIGUSR1 from the scheduler (to be suspended, or its time is nearly over)"),
    ],
)
@fault(
    (35, "notify", "s_rt", "preemption"),
    "the scheduler warns a worker: SIGUSR1, SIGUSR2, SIGTERM or SIGXCPU, once or often",
    promise="it hands back what has not begun, and delivers the rest",
)
def test_a_warned_worker_hands_back_what_has_not_begun_and_delivers_the_rest(
    shepherd: Shepherd, tmp_path: Path, numbers: list[int], reason: str
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"open({str(begun)!r}, 'w').close()\n{WAIT_FOR}result = 5"
    server = shepherd.serve(("result = 1",), (wait, str(go)), *[("result = 2",)] * 5)
    server.settings["heartbeat"] = 60.0
    worker = shepherd.work(server, notice=30)
    until(begun.exists, "the task has begun")
    call = warned(shepherd, server, worker, *numbers)
    assert call["want"] == 0
    assert call["leaving"]["reason"] == reason
    assert 20 < call["leaving"]["seconds"] <= 30
    assert call["holding"] in ([[2, 2, 1]], [])  # that it has ended may be news, too
    for number in numbers:
        worker.send_signal(number)
    go.touch()
    assert worker.wait(60) == 0
    assert server.results() == [1, 5]
    assert {call["want"] for call in server.calls if call["leaving"]} == {0}


@fault(
    (35, "notify", "preemption"),
    "a task lasts longer than the scheduler's warning",
    promise="it is interrupted, with the reason, and may run elsewhere",
)
def test_a_task_that_outlasts_the_notice_is_interrupted(shepherd: Shepherd, tmp_path: Path) -> None:
    server = shepherd.serve((f"open({str(tmp_path / 'begun')!r}, 'w')\n{WAIT_FOR}", "/nonexistent"))
    server.stop_when_done = False
    start = time.monotonic()
    worker = shepherd.work(server, {"LEAVING_BEAT": 0.3}, notice=3)
    until((tmp_path / "begun").exists, "the task has begun")
    warned(shepherd, server, worker, signal.SIGUSR2)
    assert worker.wait(60) == 0
    assert time.monotonic() - start > 1.5
    sentence = "the worker was ended while the task ran: SIGUSR2 from the scheduler (deleted, or its time was over)"
    assert server.results() == [(INTERRUPTED, sentence)]
    assert len([call for call in server.calls if call["leaving"]]) >= 5  # it called on meanwhile


def test_a_warned_worker_ends_at_once_if_the_server_says_so(shepherd: Shepherd, tmp_path: Path) -> None:
    server = shepherd.serve((f"open({str(tmp_path / 'begun')!r}, 'w')\n{WAIT_FOR}", "/nonexistent"))
    worker = shepherd.work(server, notice=60)
    until((tmp_path / "begun").exists, "the task has begun")
    server.extra = {"stop": True}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


@fault(
    (45, 46),
    "a worker must end while the server does not answer",
    promise="its outcomes are left in files, to be collected",
)
def test_a_warning_is_not_lost_while_the_server_does_not_answer(shepherd: Shepherd, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    server = shepherd.serve((f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = 5", str(go)))
    worker = shepherd.work(server, notice=4)
    until(begun.exists, "the task has begun")
    server.answers.clear()
    until(lambda: server.waiting, "a call has no answer")
    worker.send_signal(signal.SIGUSR2)
    go.touch()
    assert worker.wait(60) == 0
    assert {task: pickle.loads(outcome.value) for task, outcome in shepherd.spooled().items()} == {1: 5}
    assert "1 outcomes wait for the server in" in shepherd.log()


def test_a_warning_before_the_server_has_been_found_ends_the_worker(shepherd: Shepherd) -> None:
    server = shepherd.serve()
    server.status = (503, {})
    worker = shepherd.work(server)
    until(lambda: "trying on" in shepherd.log(), "the server has refused")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


@fault(
    "preemption",
    "the scheduler ends the task's process before the worker",
    promise="it counts as interrupted, not as failed",
)
def test_a_scheduler_that_ends_the_task_first_interrupts_it(shepherd: Shepherd, tmp_path: Path) -> None:
    """As Slurm, which signals all processes of a job."""
    source = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{WAIT_FOR}"
    server = shepherd.serve((source, "/nonexistent"))
    worker = shepherd.work(server)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the task has begun")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert server.results() == [
        (INTERRUPTED, "the worker was ended while the task ran: SIGTERM (deleted, or its time was over)")
    ]
