"""The pace, and a walltime that is nearly over."""

import pytest

from sheepdog.client import RESULT, Outcome
from sheepdog.client.parent.pace import Pace
from sheepdog.client.wire.limits import BATCH_MOST, BATCH_SECONDS, BATCH_STUCK, MAX_BATCH
from tests.client.shepherd import Shepherd
from tests.faults import fault


@pytest.mark.slow
@fault(
    (35, "no notify"),
    "the rest of the walltime is shorter than a task",
    promise="the worker takes none, and leaves; no task is interrupted",
)
def test_no_task_is_taken_that_the_walltime_cannot_hold(shepherd: Shepherd) -> None:
    server = shepherd.serve(*[("import time; time.sleep(0.4); result = 1",)] * 40)
    worker = shepherd.work(server, time=5)
    assert worker.wait(60) == 0
    assert 5 <= len(server.outcomes) < 12
    assert set(server.results()) == {1}  # none was interrupted
    assert server.calls[-1]["leaving"]["reason"] == "its walltime ends before another task could"


def test_a_batch_grows_with_the_time_in_which_the_server_replies() -> None:
    """One that has so many workers that it is slow is asked less often."""
    wants = []
    for reply in (0.001, 0.2, 60.0):
        pace = Pace(float("inf"))
        for seconds in (99.0, reply, reply):  # a single slow one tells nothing
            pace.answered(seconds)
        for _ in range(5):
            pace.begin()
            pace.note([Outcome(1, 1, RESULT, 0.05, b"", b"", 0, None, 0)])
            pace.adapt()
        wants.append((pace.want, pace.aim, pace.patience))
    assert wants == [(10, BATCH_SECONDS, BATCH_STUCK), (80, 4.0, 8.0), (200, BATCH_MOST, 2 * BATCH_MOST)]
    assert pace.want <= MAX_BATCH


@pytest.mark.slow
def test_a_slow_server_is_asked_for_more_at_a_time(shepherd: Shepherd) -> None:
    wants = []
    for slowness in (0.0, 0.2):
        server = shepherd.serve(*[("import time; time.sleep(0.01)",)] * 150, heartbeat=60.0)
        server.slowness = slowness
        assert shepherd.work(server).wait(60) == 0
        wants.append(max(call["want"] for call in server.calls))
    assert wants[0] < 100 < wants[1]
