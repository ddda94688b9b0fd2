"""Server, worker, child or client is killed while map runs."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sheepdog
from sheepdog.storage import Storage
from tests.faults import fault
from tests.local import DB, errors, parents_of, workers_of
from tests.tasks import sleepy, wait_for
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


def start_5000(place: Path, **options: int) -> int:
    args = [(i, str(place / "ran")) for i in range(5000)]
    request_id = sheepdog.map_async(sleepy, args, {"workers": 2, "lease": 2, **options})
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done > 300, "300 results")
    return request_id


def check_5000(request_id: int, place: Path, extra: int) -> None:
    """Every task has its own result, and hardly any ran twice: the most that two workers can hold."""
    results = [result for _, result in sheepdog.get_results(request_id, DB)]
    assert errors(request_id) == []
    assert results == [i * i for i in range(5000)]
    runs = (place / "ran").read_text().split()
    assert set(runs) == {str(i) for i in range(5000)}
    assert len(runs) <= 5000 + extra


@fault(
    5,
    "a local worker is stopped for longer than its lease",
    promise="its tasks run elsewhere, and it is ended: nobody else would",
)
@pytest.mark.parametrize("workers", [1, 2])
def test_stop_a_worker(place: Path, workers: int) -> None:
    args = [(place / "go",)] * (2 * workers)
    request_id = sheepdog.map_async(wait_for, args, {"workers": workers, "lease": 2, "poll_interval": 1})
    until(lambda: len(parents_of(place)) == workers, "the workers run")
    with Storage(DB) as storage:
        until(lambda: len(storage.arrays(request_id)) == 1 and storage.leased(request_id) >= workers, "they have tasks")
        stopped = int(storage.arrays(request_id)[0].job.split()[0])
        os.kill(stopped, signal.SIGSTOP)
        try:
            until(lambda: not Path(f"/proc/{stopped}").exists() or is_dead(stopped), "it has been ended")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)
        (place / "go").touch()
        assert all(result for _, result in sheepdog.get_results(request_id, DB))
    assert errors(request_id) == []


def is_dead(pid: int) -> bool:
    """Tell whether a process has ended that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@fault(
    1,
    "the server is killed with -9, and started again",
    promise="each task has one outcome, the right one, and ran once",
)
def test_kill_the_server(place: Path) -> None:
    request_id = start_5000(place)
    server = sheepdog.Server(dbfile=DB)
    port, pid = server.port, server.pid
    for _ in range(3):
        assert pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not server.running, "the server is dead")
        before = sheepdog.get_results(request_id, DB, block=False)
        server.start()  # as any call that needs it does
        assert server.port == port
        with Storage(DB) as storage:
            done = sum(result is not None for _, result in before)
            until(lambda: storage.progress(request_id).done > done, "results go on")  # noqa: B023
        pid = server.pid
    check_5000(request_id, place, extra=0)


@fault(1, "the server is killed with -9 while a client waits", promise="the client starts it again; each task ran once")
def test_kill_the_server_and_wait(place: Path) -> None:
    request_id = start_5000(place)
    pid = sheepdog.Server(dbfile=DB).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    check_5000(request_id, place, extra=0)


@fault(5, "a worker is killed with -9", promise="others run its tasks; each has one outcome, the right one")
def test_kill_a_worker(place: Path) -> None:
    request_id = start_5000(place)
    os.kill(parents_of(place)[0], signal.SIGKILL)
    check_5000(request_id, place, extra=1000)


@fault(6, "a child is killed with -9", promise="one task ends with that error, at most; all others have their results")
def test_kill_a_task_s_process(place: Path) -> None:
    """That is the outcome of the task, and of it alone."""
    request_id = start_5000(place)
    child = next(iter(set(workers_of(place)) - set(parents_of(place))))
    os.kill(child, signal.SIGKILL)
    results = [result for _, result in sheepdog.get_results(request_id, DB)]
    missing = [i for i, result in enumerate(results) if result is None]
    assert [result for result in results if result is not None] == [i * i for i in range(5000) if i not in missing]
    assert len(missing) <= 1
    assert all("killed by signal 9 (SIGKILL)" in error for error in errors(request_id))


def test_kill_every_worker(place: Path) -> None:
    """Others are submitted; what the lost ones held runs again, and is recorded."""
    request_id = start_5000(place)
    for pid in parents_of(place):
        os.kill(pid, signal.SIGKILL)
    with Storage(DB) as storage:
        until(lambda: len(storage.arrays(request_id)) == 2, "workers have been submitted again")
        sheepdog.get_results(request_id, DB)
        again = list(storage.attempts(request_id))
    assert again
    check_5000(request_id, place, extra=len(again))


def test_kill_every_worker_for_good(place: Path) -> None:
    """Then nobody is left to run the tasks, and each says so."""
    request_id = start_5000(place, resubmissions=0)
    for pid in parents_of(place):
        os.kill(pid, signal.SIGKILL)
    results = sheepdog.get_results(request_id, DB)
    missing = sum(result is None for _, result in results)
    assert missing == len(errors(request_id)) > 0
    assert all("its workers have ended" in error for error in errors(request_id))


@fault("client killed", "the client is killed with -9", promise="the request goes on; anybody can fetch the results")
def test_kill_the_client(place: Path) -> None:
    """The request goes on without it; anybody can fetch the results."""
    code = (
        "import sys, sheepdog\nsys.path.insert(0, sys.argv[1])\nfrom tests.tasks import sleepy\n"
        "sheepdog.map(sleepy, [(i, sys.argv[2]) for i in range(5000)], {'workers': 2})"
    )
    root = str(Path(__file__).parents[2])
    client = subprocess.Popen([sys.executable, "-c", code, root, str(place / "ran")])
    until(lambda: Path(DB).exists() and (place / "ran").exists(), "it runs")
    client.kill()
    client.wait()
    check_5000(1, place, extra=0)


def test_the_server_goes_when_there_is_nothing_left_to_do(place: Path) -> None:
    assert sheepdog.map(abs, [(-1,)]) == [1]
    until(lambda: not sheepdog.Server(dbfile=DB).running, "the server has gone", 40)
    assert sheepdog.map(abs, [(-2,)]) == [2]
    assert not list(Path("home/.sheepdog").glob("sheepdog_001*"))
