"""The worker: when it ends."""

from pathlib import Path

import pytest

from tests.client.shepherd import WAIT_FOR, Shepherd
from tests.faults import fault
from tests.waiting import until


@pytest.mark.parametrize("when", ["at join", "later"])
@fault("cancel", "a worker calls for a request that has ended", promise="it ends, with status 0")
def test_a_request_that_has_ended_is_no_failure(shepherd: Shepherd, tmp_path: Path, when: str) -> None:
    server = shepherd.serve((f"open({str(tmp_path / 'begun')!r}, 'w')\n{WAIT_FOR}", "/nonexistent"))
    if when == "at join":
        server.status = (410, {})
    worker = shepherd.work(server)
    if when == "later":
        until((tmp_path / "begun").exists, "the task has begun")
        server.status = (410, {})
    assert worker.wait(60) == 0
    assert "the server says 410" in shepherd.log()


@fault(21, "a worker whose token is wrong", promise="it ends at once, with one line in its log")
@pytest.mark.parametrize("status", [401, 403])
def test_a_worker_whose_token_is_wrong_ends_at_once(shepherd: Shepherd, status: int) -> None:
    server = shepherd.serve(("result = 1",))
    server.status = (status, {})
    worker = shepherd.work(server)
    assert worker.wait(60) == 1
    assert server.calls == []
    greeting, *rest = shepherd.log().splitlines()
    assert "request 1" in greeting
    assert [line.partition(": ")[2] for line in rest] == [f"ends: the server says {status}: no"]
