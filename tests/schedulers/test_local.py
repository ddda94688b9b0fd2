"""Local processes: the script that starts them, and who still is one of them."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost
from sheepdog.schedulers.local import LocalScheduler, local_script
from sheepdog.values.model import ArrayJob
from tests.schedulers.scripts import PROGRAM, job, run
from tests.waiting import until


def wait_for_end(log: Path) -> None:
    until(lambda: log.read_text() == "said\n", "it has ended")


@pytest.mark.slow
def test_local_workers_are_started_once_each(tmp_path: Path) -> None:
    there, where = tmp_path / "the job's", tmp_path / "where I work"
    for directory in (there, where):
        directory.mkdir()
    (there / "client.pyz").write_text(PROGRAM)
    first = run(local_script(job(), str(where)), there)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    pids = (there / "job_id").read_text().split()
    assert len(set(pids)) == 3
    assert first.stdout == f"sheepdog:job {' '.join(pids)}\nsheepdog:directory {there}\n"
    assert run(local_script(job(), str(where)), there).stdout == first.stdout
    for element in "123":
        wait_for_end(there / f"worker.{element}.log")
        assert json.loads((there / f"ran.{element}").read_text())["cwd"] == str(where)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all have ended")


def test_the_log_of_a_local_worker_is_written_with_the_users_umask(tmp_path: Path) -> None:
    """Which is 077 when the script is uploaded: see upload.py."""
    (tmp_path / "client.pyz").write_text(PROGRAM)
    run("umask 077\n" + local_script(job(), "/").decode(), tmp_path)
    for element in "123":
        log = tmp_path / f"worker.{element}.log"
        wait_for_end(log)
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_python_that_is_not_there_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    there = tmp_path / "there"
    done = run(local_script(job("/nonexistent/python3 -I"), ""), there)
    assert (done.returncode, done.stderr) == (127, "/nonexistent/python3: not found\n")
    assert not there.exists()


def test_a_directory_that_is_not_there_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    there = tmp_path / "there"
    done = run(local_script(job(), "/nonexistent"), there)
    assert done.returncode not in (0, 127)
    assert "/nonexistent" in done.stderr
    assert not there.exists()


# Who is alive


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line is a worker's."""
    (tmp_path / "client.pyz").write_text("import time; time.sleep(1000)")
    process = subprocess.Popen(["python3", str(tmp_path / "client.pyz")])
    until(Path(f"/proc/{process.pid}/cmdline").read_bytes, "its command line can be read")
    yield process
    process.kill()
    process.wait()


def test_a_number_that_belongs_to_another_process_by_now_is_no_worker(worker: subprocess.Popen[bytes]) -> None:
    """The elements are counted in the order of the ids."""
    status = LocalScheduler().status(LocalHost(), [f"{os.getpid()} {worker.pid}", str(os.getpid())])
    assert [each.running for each in status.values()] == [{"2"}, set()]
    assert [bool(each.reason) for each in status.values()] == [False, True]


def test_only_its_own_workers_are_ended(worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        array = ArrayJob(1, "herd", "/nowhere", 2, job=f"{other.pid} {worker.pid}")
        LocalScheduler().cancel(LocalHost(), [array])  # a worker, but of another job
        assert worker.poll() is None
        LocalScheduler().cancel(LocalHost(), [replace(array, directory=str(tmp_path))])
        assert worker.wait() == -9
        assert other.poll() is None
        other.kill()
