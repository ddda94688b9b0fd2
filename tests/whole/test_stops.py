"""The server dies at its worst moment, or is stopped: what it has acknowledged is there, and nobody is lost."""

import os
import signal
import time
from pathlib import Path

import pytest

import sheepdog
from sheepdog.server.life import Server, log_file
from sheepdog.storage import Storage
from tests import disk as disks
from tests.faults import fault
from tests.local import servers_of
from tests.waiting import until
from tests.whole.durable import (
    DB,
    check_results,
    ran,
    work,
)

pytestmark = pytest.mark.usefixtures("killed")


@pytest.mark.parametrize("kind", ["stored", "tasks"])
@fault(
    (2, 3),
    "the server dies between a commit and its reply",
    promise="nothing is stored twice; what was leased is leased again to the same worker",
)
def test_the_server_dies_between_commit_and_reply(place: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The worker repeats its call; nothing is stored twice, and what was leased is leased again, to nobody else."""
    count = 400
    for name, value in disks.environment(kill=[kind, 3]).items():
        monkeypatch.setenv(name, value)
    request_id = sheepdog.map_async(work, [(i, str(place / "ran"), 0.01) for i in range(count)], {"workers": 2})
    server = Server(dbfile=DB)
    deaths = 0
    with Storage(DB) as storage:
        while not storage.progress(request_id).finished:
            until(
                lambda: not servers_of(place) or storage.progress(request_id).finished, "it is dead, or all has ended"
            )
            if not servers_of(place):
                deaths += 1
                server.start()
    check_results(request_id, count)
    assert sorted(ran(place)) == list(range(count))
    print(f"\n{deaths} deaths")
    assert deaths >= 3


@fault(4, "the server is stopped for longer than a lease", promise="no worker is lost; each task ran once")
def test_the_server_is_stopped_for_longer_than_a_lease(place: Path) -> None:
    """A time in which it could hear nobody ends no lease: when it wakes, no worker is lost, and no task runs twice."""
    count = 300
    args = [(i, str(place / "ran"), 0.05) for i in range(count)]
    request_id = sheepdog.map_async(work, args, {"workers": 2, "lease": 2})
    server = Server(dbfile=DB)
    with Storage(DB) as storage:
        for number in range(1, 4):
            until(lambda: storage.progress(request_id).done > 20 * number, "results")  # noqa: B023
            pid = server.pid
            assert pid
            os.kill(pid, signal.SIGSTOP)
            until(lambda: f"process {pid}, is stopped" in server.trouble, "who waits hears that it is stopped")  # noqa: B023
            time.sleep(3.5)
            os.kill(pid, signal.SIGCONT)
            assert storage.progress(request_id).done < count
    check_results(request_id, count)
    assert sorted(ran(place)) == list(range(count))
    assert "is lost" not in log_file(str(place / DB)).read_text()
