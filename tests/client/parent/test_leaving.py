"""The end of the walltime."""

import pickle
import time
from pathlib import Path

import pytest

from sheepdog.client import INTERRUPTED
from tests.client.shepherd import WAIT_FOR, Shepherd
from tests.faults import fault
from tests.waiting import until

pytestmark = pytest.mark.slow


@fault(
    (35, "no notify"),
    "the walltime ends, and no signal says so before",
    promise="the worker knows its time, and says why it leaves before it is killed",
)
def test_the_end_of_the_walltime_is_a_warning(shepherd: Shepherd) -> None:
    server = shepherd.serve((WAIT_FOR, "/nonexistent"))
    server.stop_when_done = False
    start = time.monotonic()
    worker = shepherd.work(server, time=5, notice=60)
    assert worker.wait(60) == 0
    assert time.monotonic() - start > 3.5
    assert server.results() == [(INTERRUPTED, "the worker was ended while the task ran: its walltime of 5 s was over")]
    reasons = {call["leaving"]["reason"] for call in server.calls if call["leaving"]}
    assert reasons == {"its walltime of 5 s was over"}


def test_outcomes_that_the_walltime_leaves_no_time_to_deliver_are_spooled(shepherd: Shepherd, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    server = shepherd.serve((f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = 5", str(go)))
    start = time.monotonic()
    worker = shepherd.work(server, time=6)
    until(begun.exists, "the task has begun")
    server.status = (507, {"Retry-After": "60"})
    go.touch()
    assert worker.wait(60) == 0
    assert time.monotonic() - start > 4.5
    assert pickle.loads(shepherd.spooled()[1].value) == 5
