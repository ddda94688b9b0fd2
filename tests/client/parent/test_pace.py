"""The pace, and a walltime that is nearly over."""

import pytest

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
    assert worker.wait(10) == 0
    assert 5 <= len(server.outcomes) < 12
    assert set(server.results()) == {1}  # none was interrupted
    assert server.calls[-1]["leaving"]["reason"] == "its walltime ends before another task could"
