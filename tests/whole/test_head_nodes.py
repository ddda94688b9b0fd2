"""Requests on several head nodes, and requests of which something is damaged: none is in another's way."""

import os
import signal
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import DamagedRequest
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, RequestState
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.local import DB, errors, parents_of
from tests.waiting import until

SSH = """#!/bin/sh
case "$*" in
  *" -G "*) echo userknownhostsfile x;;
  *" -O "*) exit 255;;
  *) echo $$ >>'{pids}'; while [ -e '{hang}' ]; do sleep 0.1; done; exit 255;;
esac
"""


def wait_for(file: str) -> str:
    import os
    import time

    while not os.path.exists(file):
        time.sleep(0.05)
    return file


def request_elsewhere(place: Path, host: str) -> int:
    """Store a request that has been submitted at another host."""
    with Storage(DB) as storage:
        options = {"scheduler": "gridengine", "host": host}
        request = storage.new_request(b"f", b"", [b"x"], form=form(), options=options)
        array = storage.new_array(request, ArrayJob(0, f"herd_{request:03d}_0badcafe", f"{place}/herd", 1))
        storage.set_submitted(request, ArrayJob(array.number, array.name, array.directory, 1, job="7"))
    return request


def state(request: int) -> RequestState:
    with Storage(DB) as storage:
        return storage.get_request(request).state


@fault(
    "slow head node",
    "a head node whose sshd accepts and then says nothing",
    promise="requests on others go on: their workers are submitted again, and what is left of them is taken away",
)
def test_a_head_node_that_hangs_delays_no_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "bin").mkdir()
    hang, pids, go = place / "hang", place / "pids", place / "go"
    hang.touch()
    (place / "bin" / "ssh").write_text(SSH.format(hang=hang, pids=pids))
    (place / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    try:
        request_elsewhere(place, "slow")
        here = sheepdog.map_async(wait_for, [(str(go),)] * 2, {"dbfile": DB, "workers": 2})
        until(lambda: pids.exists() and pids.read_text(), "the server waits for the other head node")
        hanging = int(pids.read_text().split()[0])
        until(lambda: len(parents_of(place)) == 2, "there are workers")
        for pid in parents_of(place):
            os.kill(pid, signal.SIGKILL)
        go.touch()
        until(lambda: state(here) == RequestState.CLOSED, "other workers have come, and all is taken away")
        assert [result for _, result in sheepdog.get_results(here, DB)] == [str(go)] * 2
        os.kill(hanging, 0)  # all the while
    finally:
        hang.unlink()


@fault(
    "damaged request",
    "what is stored of a request is damaged, or fails a check of this version",
    promise="it ends with a sentence that says so; the others go on",
)
def test_a_damaged_request_is_in_no_others_way(place: Path) -> None:
    damaged = [request_elsewhere(place, "a b"), request_elsewhere(place, "head"), request_elsewhere(place, "head")]
    with Storage(DB) as storage, storage.transaction():
        storage.db.execute("""UPDATE request SET options = '{"sched' WHERE id = ?""", (damaged[1],))
        storage.sign_request(damaged[1], again=True)  # or it would be somebody else's
        storage.db.execute("""UPDATE array_job SET urls = 'none' WHERE request = ?""", (damaged[2],))
    assert sheepdog.map(abs, [(-1,), (-2,)], {"dbfile": DB}) == [1, 2]
    with Storage(DB) as storage:
        for request in damaged:
            until(lambda request=request: storage.progress(request).finished, "it has ended")  # type: ignore[misc]
            [(_, error)] = storage.errors(request)
            assert error.text.startswith("not run: ")
    assert "'a b' is not a name that ssh can connect to" in errors(damaged[0])[0]
    with pytest.raises(DamagedRequest, match=f"request {damaged[1]} cannot be read"):
        sheepdog.get_errors(damaged[1], DB)
    assert sheepdog.map(abs, [(-1,), (-2,)], {"dbfile": DB}) == [1, 2]
