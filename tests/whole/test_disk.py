"""The server's disk is full, locked or slow: the run goes on."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sheepdog.server.life import Server, log_file
from sheepdog.storage import Storage
from tests import disk as disks
from tests.faults import fault
from tests.local import ROOT
from tests.waiting import until
from tests.whole.durable import DB, check_results, needs_sqlite, ran, start_many

pytestmark = pytest.mark.usefixtures("killed")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@fault(
    (15, "disk full"),
    "the server's disk is full for a while",
    promise="workers keep what they have; with room again the run goes on, nothing lost, nothing twice",
)
def test_the_disk_is_full_for_a_while(place: Path) -> None:
    """The workers keep what they have; when there is room again the run goes on, nothing lost, nothing twice."""
    Path("small").mkdir()
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from tests.whole.full_disk import live_through_a_full_disk as f; f(sys.argv[2])"
    mount = 'mount -t tmpfs -o size=4m tmpfs small && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", code, str(ROOT), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@fault(
    "database locked",
    "another program locks the database for longer than the server waits",
    promise="workers and user are told; then it goes on, nothing lost, nothing twice",
)
def test_another_program_locks_the_database(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the server waits for it (60 s; here 1 s). The workers are told, and try again."""
    for name, value in disks.environment(busy=1.0).items():
        monkeypatch.setenv(name, value)
    count = 1000
    request_id = start_many(place, count)
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done > 100, "100 results")
        logs = list(place.glob("home/.sheepdog/*/worker.*.log"))
        with contextlib.closing(sqlite3.connect(DB, isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            until(
                lambda: all("database is locked" in log.read_text() for log in logs), "the workers are told, and wait"
            )
            assert "database is locked" in Server(dbfile=DB).trouble
            assert storage.progress(request_id).done < count
        until(lambda: not Server(dbfile=DB).trouble, "it goes on")
    check_results(request_id, count)
    assert sorted(ran(place)) == list(range(count))


@needs_sqlite
@fault(14, "each sync of the disk takes half a second longer", promise="over 100 tasks a second; no lease is lost")
def test_a_slow_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sync takes half a second longer. Calls share one, so the workers are hardly slower, and none is lost."""
    for name, value in disks.environment(disk={"sync_seconds": 0.5}).items():
        monkeypatch.setenv(name, value)
    count = 4000
    request_id = start_many(place, count, workers=8, lease=5)
    begin = time.monotonic()
    check_results(request_id, count)
    rate = count / (time.monotonic() - begin)
    print(f"\n{rate:.0f} tasks a second with 8 workers, each sync of the disk taking 0.5 s longer")
    assert rate > 100
    assert sorted(ran(place)) == list(range(count))
    assert "is lost" not in log_file(str(place / DB)).read_text()
