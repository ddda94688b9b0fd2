"""Chaos, in short; and that the harness would notice. `make chaos` runs it for half an hour."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sheepdog.storage import Storage
from tests.chaos import ALL_KINDS, PRIVATELY, ROOT, TASKS, Here, Round, fate, may_mount, recorded_attempts, schedule
from tests.faults import fault

pytestmark = pytest.mark.slow
PROMISE = "every task has exactly one outcome, the right one; none ran more often than recorded; nothing is left"


def play(*options: str) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--verbose", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(240)
@fault("chaos", "10,000 tasks; workers, children, server and client killed or stopped, the disk full", promise=PROMISE)
def test_chaos_here() -> None:
    play("--seed=1", "--events=20", "--limit=180")


@pytest.mark.cluster
@pytest.mark.timeout(360)
@fault("chaos", "the same on the cluster, with cables pulled and elements deleted", promise=PROMISE)
def test_chaos_on_the_cluster(cluster_possible: None) -> None:
    play("--seed=1", "--events=25", "--limit=240", "--cluster")


# What the harness would notice


def test_what_happens_follows_from_the_seed() -> None:
    events = schedule(1, ALL_KINDS, 30)
    assert events == schedule(1, ALL_KINDS, 30)
    assert events != schedule(2, ALL_KINDS, 30)
    assert {event.kind for event in events} == set(ALL_KINDS)
    assert [event.share for event in events] == sorted(event.share for event in events)
    fates = [fate(index, 1)[0] for index in range(TASKS)]
    assert {what: 0 < fates.count(what) < 700 for what in set(fates)} == {
        **dict.fromkeys(["raise", "kill", "exit", "segfault"], True),
        "return": False,
    }
    assert all(0.001 <= fate(index, 1)[1] <= 0.05 for index in range(1000))


@pytest.fixture
def round(tmp_path: Path) -> Round:
    return Round(Here(tmp_path), tmp_path, 1, 100, 10, 60.0)


def right(round: Round) -> tuple[list[Any], list[Any]]:
    """The outcomes that a round must have."""
    errors = {
        "raise": "ValueError: task {} raises\nand more",
        "kill": "the task's process was killed by signal 9 (SIGKILL) before the function returned",
        "exit": "the task's process exited with status 3 before the function returned",
        "segfault": "the task's process was killed by signal 11 (SIGSEGV) before the function returned",
    }
    fates = [fate(index, round.seed)[0] for index in range(round.tasks)]
    results = [((i, 1, ""), i * i if what == "return" else None) for i, what in enumerate(fates)]
    return results, [((i, 1, ""), errors[what].format(i)) for i, what in enumerate(fates) if what != "return"]


def test_right_outcomes_are_right(round: Round) -> None:
    assert round.wrong(*right(round)) == []


def test_wrong_outcomes_are_noticed(round: Round) -> None:
    results, errors = right(round)
    good = next(i for i, (_, value) in enumerate(results) if value is not None)
    (bad, *_), text = errors[0]
    name = results[good][0]

    def changed(index: int, value: object) -> list[Any]:
        return [*results[:index], (results[index][0], value), *results[index + 1 :]]

    assert len(round.wrong(changed(good, None), errors)) == 1
    assert len(round.wrong(changed(good, -1), errors)) == 1
    assert len(round.wrong(changed(bad, 1), errors)) == 1
    assert len(round.wrong(results, [*errors, (name, text)])) == 1
    assert len(round.wrong(results, [*errors, errors[0]])) == 1
    assert len(round.wrong(results, errors[1:])) == 1
    assert len(round.wrong(results, [(errors[0][0], "IndexError: other"), *errors[1:]])) == 1
    assert len(round.wrong(results[:-1], errors)) >= 1


def test_attempts_are_read_from_the_store(tmp_path: Path) -> None:
    with Storage(tmp_path / "db") as storage:
        storage.new_request(b"f", b"", [b""])
        request = storage.new_request(b"f", b"", [b""] * 3)
        storage.store_result(request, 1, b"r")
        storage.store_error(request, 3, b"e")
        assert recorded_attempts(storage, request) == {1: 1, 3: 1}


def test_a_full_disk_is_full_until_it_is_freed(tmp_path: Path) -> None:
    """In a mount namespace of its own."""
    script = f"""
import errno, os, subprocess, sys
from pathlib import Path
from tests.chaos import fill
place = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "chaos", place], check=True)
free = fill(place)
try:
    place.joinpath("x").write_bytes(bytes(8192))
except OSError as error:
    print(error.errno == errno.ENOSPC)
free()
print(place.joinpath("y").write_bytes(bytes(1 << 20)))
"""
    if not may_mount():
        pytest.skip("needs root")
    done = subprocess.run([*PRIVATELY, sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("True\n1048576\n", "")
