"""What the server is told, and how its replies are taken."""

from pathlib import Path

import pytest

from tests.client.shepherd import WAIT_FOR, Shepherd
from tests.faults import fault
from tests.waiting import until


def test_outcomes_that_came_too_late_are_logged_now_and_then(shepherd: Shepherd) -> None:
    server = shepherd.serve(*[("result = 1",)] * 3)
    server.extra = {"late": [1, 2]}
    assert shepherd.work(server).wait(60) == 0
    assert shepherd.log().count("came too late") == 1


@pytest.mark.slow
def test_the_server_is_told_which_task_runs_and_for_how_long(shepherd: Shepherd, tmp_path: Path) -> None:
    go = tmp_path / "go"
    server = shepherd.serve(("result = 1",), (WAIT_FOR, str(go)))
    worker = shepherd.work(server)
    until(lambda: [call["running"] for call in server.calls if "running" in call][1:], "two calls while it runs")
    (first, second, *_) = [call["running"] for call in server.calls if "running" in call]
    go.touch()
    assert worker.wait(60) == 0
    assert first[:2] == second[:2] == [2, 1]
    assert 0 <= first[2] < second[2] < 10
    assert "running" not in server.calls[0]
    assert "running" not in server.calls[-1]


@fault(
    "sys.exit",
    "tasks exit with a status, or are killed by a signal",
    promise="the status and the signal come as numbers, with the memory that the process had",
)
def test_the_server_is_told_the_signal_the_status_and_the_memory(shepherd: Shepherd) -> None:
    source = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    shepherd.run(("result = 1",), ("import sys; sys.exit(3)",), (source,), ("import os; os._exit(4)",))
    found = shepherd.servers[0].outcomes
    assert [(found[task].signal, found[task].status) for task in (1, 2, 3, 4)] == [(0, None), (0, 3), (9, None), (0, 4)]
    assert found[1].peak > 1 << 20  # the first task of a process
    assert all(found[task].peak == 0 or found[task].peak > 1 << 20 for task in found)


@fault(
    "another address",
    "a worker has never reached its server",
    promise="it ends within ten minutes, however long it would try to deliver",
)
def test_who_never_joined_does_not_try_for_a_day(shepherd: Shepherd) -> None:
    server = shepherd.serve(("result = 1",))
    server.status = (503, {})
    worker = shepherd.work(server, {"SPARE_PATIENCE": 0.5}, patience=86400.0)
    assert worker.wait(60) == 1
    assert "ends: no answer from the server for 0 s; the last error was: the server says 503" in shepherd.log()
