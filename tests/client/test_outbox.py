"""Outcomes that the server will not take: they are left in the spool."""

import pickle
import signal
import subprocess
from pathlib import Path

from ..cluster import until
from ..faults import fault
from .shepherd import WAIT_FOR, Shepherd


def with_undelivered(shepherd: Shepherd, tmp_path: Path, status: int, **constants: float) -> subprocess.Popen[bytes]:
    """Return a worker that has the outcomes 2 to 7, which the server will not take."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = b'7'"
    server = shepherd.serve(*[("result = b'x' * 400_000",)] * 6, (wait, str(go)), heartbeat=60.0)
    worker = shepherd.work(server, {"STUCK": 100.0, **constants}, notice=3)
    until(begun.exists, "the last task has begun")
    assert list(server.outcomes) == [1]
    server.status = (status, {})
    go.touch()
    return worker


@fault(
    21,
    "the server refuses a worker that has outcomes",
    promise="it ends at once, and leaves them in files, to be collected",
)
def test_a_worker_that_is_refused_leaves_its_outcomes_in_the_spool(shepherd: Shepherd, tmp_path: Path) -> None:
    assert with_undelivered(shepherd, tmp_path, 403).wait(10) == 1
    found = shepherd.spooled()
    assert sorted(found) == [2, 3, 4, 5, 6, 7]
    assert pickle.loads(found[7].value) == b"7"


def test_the_files_of_a_spool_are_of_the_size_of_a_call(shepherd: Shepherd, tmp_path: Path) -> None:
    worker = with_undelivered(shepherd, tmp_path, 507, MAX_CALL=1_000_000)
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(10) == 0
    assert sorted(shepherd.spooled()) == [2, 3, 4, 5, 6, 7]
    sizes = [path.stat().st_size for path in (shepherd.directory / "spool").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) < 1_000_000


def test_a_spool_that_cannot_be_written_is_logged(shepherd: Shepherd, tmp_path: Path) -> None:
    (shepherd.directory / "spool").write_text("")
    worker = with_undelivered(shepherd, tmp_path, 507)
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(10) == 0
    assert "6 outcomes are lost: they cannot be written to" in shepherd.log()
