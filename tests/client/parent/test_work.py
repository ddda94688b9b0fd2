"""The work: tasks that take too long, or that others have done."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import RAISED, TIMEOUT
from tests.client.children import alive
from tests.client.shepherd import WAIT_FOR, Shepherd
from tests.faults import fault
from tests.waiting import until

pytestmark = pytest.mark.slow

BUSY = "import ctypes; print('busy', flush=True); ctypes.PyDLL(None).sleep(60)"
"""The source of a task that holds Python's lock in C."""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("source", "traced"),
    [("import time; time.sleep(60)", True), (BUSY, True), (DEAF, False), ("while True: pass", True)],
    ids=["sleeps", "holds the lock in C", "ignores SIGTERM", "loops"],
)
@fault(
    (32, "timeout", "GIL"),
    "a task hangs: it sleeps, loops, ignores SIGTERM, or holds Python's lock in C",
    promise="it is ended after its timeout, with where it was; the tasks behind it run",
)
def test_a_task_beyond_its_timeout_is_ended_and_those_behind_it_run(
    shepherd: Shepherd, source: str, traced: bool
) -> None:
    server = shepherd.serve(*[("result = 1",)] * 40, (source,), *[("result = 2",)] * 40, timeout=0.5)
    assert shepherd.work(server, {"KILL_GRACE": 0.3}).wait(60) == 0
    sentence = "the task took longer than its timeout of 0.5 s and was ended"
    assert server.results() == [1] * 40 + [(TIMEOUT, sentence)] + [2] * 40
    outcome = server.outcomes[41]
    assert 0.5 <= outcome.seconds < 5
    assert (b'File "<string>", line 1 in <module>' in outcome.output) == traced


class Slow:
    """A function that takes long to load."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("(__import__('time').sleep(seconds), abs)[1]", {"seconds": self.seconds})


def test_loading_the_function_is_no_part_of_a_timeout(shepherd: Shepherd) -> None:
    server = shepherd.serve((-3,), timeout=0.4)
    server.function = Slow(1.0)
    assert shepherd.work(server).wait(60) == 0
    assert server.results() == [3]


def test_loading_the_function_does_not_take_for_ever(shepherd: Shepherd) -> None:
    server = shepherd.serve((-3,), timeout=0.4)
    server.function = Slow(60.0)
    assert shepherd.work(server, {"LOADING": 0.6}).wait(60) == 0
    assert server.results() == [(TIMEOUT, "the function was not loaded within 1 s, and its process was ended")]


@fault("timeout", "tasks wait behind one that takes long", promise="they are given back, and run elsewhere")
def test_tasks_behind_one_that_takes_long_are_given_back_before_its_timeout(shepherd: Shepherd) -> None:
    server = shepherd.serve(("result = 1",), ("import time; time.sleep(60)",), *[("result = 2",)] * 9, timeout=2.5)
    server.settings["heartbeat"] = 20.0  # so that no other call says what it holds
    worker = shepherd.work(server)
    until(lambda: len(server.calls) >= 3, "a call after a second")
    assert [call["holding"] for call in server.calls][:3] == [[], [], [[2, 2, 1]]]
    assert worker.wait(60) == 0
    assert [kind for kind, _ in server.results()[1:2]] == [TIMEOUT]
    assert server.results()[2:] == [2] * 9


def test_calls_behind_one_that_takes_longer_than_the_server_says_are_given_back(shepherd: Shepherd) -> None:
    """Of an open request, whose calls may wait for each other. They are not given back for the batch's sake."""
    quick = [("import time; time.sleep(0.02); result = 1",)] * 5
    server = shepherd.serve(*quick, ("import time; time.sleep(60)",), ("result = 2",), timeout=2.5, stuck=0.2)
    server.settings["heartbeat"] = 20.0
    worker = shepherd.work(server, {"BATCH_STUCK": 100.0})
    until(lambda: any(call["holding"] for call in server.calls), "a call that names the long one alone")
    assert next(call["holding"] for call in server.calls if call["holding"]) == [[6, 6, 1]]
    assert worker.wait(60) == 0
    assert [*server.results()[:5], server.results()[-1]] == [1] * 5 + [2]


def test_others_hear_at_once_that_a_long_call_is_the_last_one_here(shepherd: Shepherd) -> None:
    """Of an open request: they may begin later ones from then on."""
    quick = [("result = 1",)] * 5
    server = shepherd.serve(*quick, ("import time; time.sleep(60)",), timeout=2.5, stuck=0.2)
    server.settings["heartbeat"] = 20.0
    worker = shepherd.work(server, {"BATCH_STUCK": 100.0})
    until(lambda: any(call["holding"] for call in server.calls), "a call that names the long one")
    assert next(call["holding"] for call in server.calls if call["holding"]) == [[6, 6, 1]]
    assert server.results() == [1] * 5
    assert worker.wait(60) == 0


def report(times: float, controller: Any) -> int:
    number = 0
    while number < times:
        controller.report(number)
        number += 1
    return number


def test_calls_behind_one_that_keeps_reporting_are_given_back(shepherd: Shepherd) -> None:
    server = shepherd.serve((1,), (float("inf"),), (2,), timeout=2.5, stuck=0.2)
    server.function = report
    server.settings["heartbeat"] = 20.0
    worker = shepherd.work(server, {"BATCH_STUCK": 100.0})
    until(lambda: [[2, 2, 1]] in [call["holding"] for call in server.calls], "the one behind it is given back")
    assert worker.wait(60) == 0


def test_a_timeout_is_each_tasks_own(shepherd: Shepherd) -> None:
    """Each sleeps for less than the timeout; together they take longer, and longer than BATCH_STUCK."""
    assert shepherd.run(*[("import time; time.sleep(0.1); result = 1",)] * 25, timeout=0.6) == [1] * 25


@fault("bad node", "a node turns bad while a worker there has many tasks", promise="it gives them back")
def test_tasks_behind_some_that_fail_are_given_back(shepherd: Shepherd, tmp_path: Path) -> None:
    """At once; but not again while they fail."""
    bad = tmp_path / "bad"
    source = f"import os, time; time.sleep(0.005)\nif os.path.exists({str(bad)!r}): 0/0"
    server = shepherd.serve(*[(source,)] * 2000)
    server.stop_when_done = False
    shepherd.work(server, {"BATCH_SECONDS": 10.0, "BATCH_STUCK": 100.0})
    until(lambda: len(server.leased) > 200, "it has many")
    bad.touch()
    until(lambda: "tasks back: the last" in shepherd.log(), "it gives them back")
    failed = [outcome for outcome in server.outcomes.values() if outcome.kind == RAISED]
    assert len(failed) < 100
    server.extra = {"stop": True}


@fault("timeout", "a task ends just when its time is over", promise="its result counts")
def test_a_result_that_comes_at_the_timeout_counts(shepherd: Shepherd) -> None:
    handle = "import signal, time\nsignal.signal(15, lambda *_: 0/0)\n"
    caught = handle + "try: time.sleep(60)\nexcept ArithmeticError: result = 7"
    raised = handle + "time.sleep(60)"
    first, second, third = shepherd.run((caught,), (raised,), ("result = 1",), timeout=0.5)
    assert first == 7
    assert second == (TIMEOUT, "the task took longer than its timeout of 0.5 s and was ended")
    assert third == 1


@fault(
    "preemption",
    "a job is stopped for longer than its task's timeout, then goes on",
    promise="that time does not count: the task ends as if nothing had been",
)
def test_a_task_is_not_charged_for_the_time_its_job_was_stopped(shepherd: Shepherd, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    source = f"import os; open({str(begun)!r}, 'w').write(str(os.getpid()))\n{WAIT_FOR}result = 1"
    server = shepherd.serve((source, str(go)), timeout=4.0)
    worker = shepherd.work(server)
    until(lambda: begun.exists() and begun.read_text(), "the task has begun")
    pids = [worker.pid, int(begun.read_text())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)  # the fault itself
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)  # now it would be ended
    go.touch()
    assert worker.wait(60) == 0
    assert server.results() == [1]


@fault(10, "a worker runs a task that has ended elsewhere", promise="it is told, and stops running it")
def test_tasks_that_have_ended_elsewhere_are_dropped(shepherd: Shepherd, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    wait = f"import os; open({str(begun)!r}, 'w').write(str(os.getpid()))\n{WAIT_FOR}"
    server = shepherd.serve(("result = 1",), (wait, "/nonexistent"), ("result = 3",), ("result = 4",), ("result = 5",))
    server.stop_when_done = False
    worker = shepherd.work(server, {"BATCH_STUCK": 100.0})
    until(lambda: begun.exists() and begun.read_text(), "the task has begun")
    server.extra = {"drop": [2, 3]}
    until(lambda: len(server.outcomes) == 3, "the others have ended")
    assert sorted(server.outcomes) == [1, 4, 5]
    assert not alive(int(begun.read_text()))
    server.extra = {"stop": True}
    assert worker.wait(60) == 0


def test_quick_tasks_are_fetched_ahead_however_few_come_at_a_time(shepherd: Shepherd) -> None:
    """So a child need not wait for the server; but what may be needed sooner elsewhere is not held."""
    ahead = []
    for seconds, settings in ((0.001, {}), (0.05, {}), (0.001, {"stuck": 0.2})):
        server = shepherd.serve(*[(f"import time; time.sleep({seconds})",)] * 80, heartbeat=60.0, **settings)
        server.most = 4
        assert shepherd.work(server).wait(60) == 0
        ahead.append(sum(bool(call["want"] and call["holding"]) for call in server.calls))
    assert ahead[0] > 5
    assert ahead[1:] == [0, 0]
