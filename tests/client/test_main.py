"""The program: its status, its files, and the Pythons that run it."""

import signal
from pathlib import Path

import pytest

from sheepdog import client
from sheepdog.client import DIED, MEMORY, TIMEOUT
from tests.client.shepherd import Shepherd
from tests.faults import fault
from tests.waiting import until


@fault("disk full", "the disk is full where a worker writes its log", promise="it works on")
def test_a_full_disk_under_the_log_does_not_end_the_worker(shepherd: Shepherd) -> None:
    server = shepherd.serve(("result = 1",))
    worker = shepherd.work(server, first="exec 3>/dev/full;")
    assert worker.wait(60) == 0
    assert server.results() == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, None])
@fault(
    ("exit 99", "exit 100"),
    "a worker fails, whatever the reason",
    promise="its status is 1; the scheduler sees neither 99 nor 100",
)
def test_the_status_is_one_whatever_goes_wrong(shepherd: Shepherd, number: int | None) -> None:
    server = shepherd.serve()
    server.status = (503, {})
    if number is None:
        worker = shepherd.work(server, request="none")
    else:
        worker = shepherd.work(server)
        until(lambda: "trying on" in shepherd.log(), "the worker runs")
        worker.send_signal(number)
    assert worker.wait(60) == 1


def test_the_variables_of_the_tasks(shepherd: Shepherd) -> None:
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "A"]
    server = shepherd.serve((f"import os; result = [os.environ.get(name) for name in {names}]",))
    first = "MKL_NUM_THREADS=7; A=0; export MKL_NUM_THREADS A;"  # what the site says
    worker = shepherd.work(server, first=first, cpus=3, env={"A": "ä b", "OPENBLAS_NUM_THREADS": "5"})
    assert worker.wait(60) == 0, shepherd.log()
    assert server.results() == [["3", "7", "5", "ä b"]]


@pytest.mark.parametrize("flags", ["", "-I", "-I -S", "-E"])
@pytest.mark.slow
def test_functions_do_not_find_the_workers_files(shepherd: Shepherd, flags: str) -> None:
    server = shepherd.serve(("import sys; result = sys.path, sys.argv, [*vars(sys.modules['__main__'])]",))
    assert shepherd.work(server, flags=flags).wait(60) == 0
    [(path, argv, names)] = server.results()
    assert path[0] == str(shepherd.directory / "cloudpickle.zip")
    assert not [place for place in path[1:] if place.startswith(str(shepherd.directory))]
    assert argv == [""]
    assert all(name.startswith("__") for name in names)


def test_modules_of_a_user_are_found_whatever_their_names(shepherd: Shepherd, tmp_path: Path) -> None:
    rooms = [path.stem for path in Path(client.__file__).parent.rglob("[a-z]*.py")]
    assert "values" in rooms
    for name in ["client", *rooms]:
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    server = shepherd.serve(*[(f"import {name}; result = {name}.MINE",) for name in ["client", *rooms]])
    worker = shepherd.work(server, first=f"PYTHONPATH={tmp_path}; export PYTHONPATH;", flags="")
    assert worker.wait(60) == 0, shepherd.log()
    assert server.results() == [True] * (len(rooms) + 1)


@pytest.mark.slow
@fault(49, "a compute node with a Python from 3.6 on", promise="the worker works there")
def test_it_works_on_this_python(shepherd: Shepherd, each_python: Path) -> None:
    server = shepherd.serve(
        ("abs(-3)",),
        ("__import__('os').chdir('/')",),
        ("__import__('os').getcwd() == '/'",),
        ("__import__('os').closerange(0, 1024)",),
        ("__import__('time').sleep(60)",),
        ("__import__('threading').Timer(60, print).start()",),
        ("__import__('threading').active_count()",),
        ("__import__('os')._exit(3)",),
        ("bytearray(1 << 40)",),
        ("1 + 1",),
        timeout=1.0,
    )
    server.function = eval
    worker = shepherd.work(server, python=each_python, memory_limit=2 << 30)
    assert worker.wait(60) == 0, shepherd.log()
    results = server.results()
    assert results[:4] == [3, None, False, None]
    assert results[4] == (TIMEOUT, "the task took longer than its timeout of 1 s and was ended")
    assert results[5:7] == [None, 1]
    assert results[7] == (DIED, "the task's process exited with status 3 before the function returned")
    assert results[8][0] == MEMORY
    assert results[9] == 2
    assert b"most recent call first" in server.outcomes[5].output
    assert "Traceback" not in shepherd.log()
