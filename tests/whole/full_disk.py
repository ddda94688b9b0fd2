"""A run on whose disk there is no room for a while; in a mount namespace of its own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from sheepdog.server.life import Server
from sheepdog.storage import Storage
from tests.waiting import until
from tests.whole.durable import check_results, ran, start_many


def live_through_a_full_disk(place: str) -> None:
    """Fill the file system `small` while a run goes on, and free it again. Runs in a namespace of its own."""
    count = 2000
    dbfile = "small/sheepdog.sqlite"
    request_id = start_many(Path(place), count, dbfile=dbfile)
    with Storage(dbfile) as storage:
        until(lambda: storage.progress(request_id).done > 200, "200 results")
        with open("small/filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        logs = list(Path(place, "home").glob(".sheepdog/*/worker.*.log"))
        assert len(logs) == 2
        until(lambda: all("the disk is full" in log.read_text() for log in logs), "the workers are told, and wait")
        done = storage.progress(request_id).done
        assert done < count
        waiting = [sys.executable, "-c", f"import sheepdog; sheepdog.get_results(1, {dbfile!r}, verbose=True)"]
        with subprocess.Popen(waiting, stderr=subprocess.PIPE, text=True) as user:
            assert user.stderr
            assert any("the disk is full" in line for line in user.stderr), "whoever waits is told"
            user.kill()
        os.unlink("small/filler")
        until(lambda: storage.progress(request_id).done > done, "it goes on unaided")
    check_results(request_id, count, dbfile)
    assert sorted(ran(Path(place))) == list(range(count))
    Server(dbfile=dbfile).stop()
