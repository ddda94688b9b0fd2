"""Submitting an array job: with programs on the PATH in the place of Grid Engine's, and with local processes."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sheepdog.config.options import Options
from sheepdog.deployment import LocalHost
from sheepdog.deployment.job_directory import find
from sheepdog.errors import ConnectionLost, SchedulerBusy, SchedulerError, TooManyWorkers, UnknownResource
from sheepdog.schedulers import submit as submission
from sheepdog.schedulers.gridengine import parse_qsub
from sheepdog.schedulers.submit import TRIES, plan, scheduler_of, secret, urls
from sheepdog.values.model import Request, RequestState
from tests.faults import fault
from tests.schedulers.head import CAPTURED, Head
from tests.waiting import until


def options(scheduler: str = "gridengine", **said: Any) -> Options:
    return Options.read({"scheduler": scheduler, **said})


def request(**changed: Any) -> Request:
    made = Request(12, "f", RequestState.NEW, "TOKEN", {}, {}, 100, 0.0, None, 0, False)
    return made._replace(**changed)


# What is decided beforehand


@pytest.mark.parametrize(
    ("made", "url"),
    [
        (options("local", localhost="me"), "https://127.0.0.1:80"),
        (options("local", localhost="me", host="fear"), "https://me:80"),
        (options(localhost="me.org"), "https://me.org:80"),
        (options(localhost="fe80::1"), "https://[fe80::1]:80"),
    ],
)
def test_where_workers_call(made: Options, url: str) -> None:
    assert urls(made, 80) == (url,)


def test_each_array_job_has_a_name_and_a_directory_of_its_own() -> None:
    first, second = (plan(options(name="herd", ssh_dir="/scratch/me"), request(), 3, 1, 80) for _ in range(2))
    assert first.name.startswith("herd_012_")
    assert first.directory == f"/scratch/me/{first.name}"
    assert (first.workers, first.level, first.job) == (3, 1, "")
    assert first.name != second.name


def test_the_secret_tells_the_worker_its_limits() -> None:
    made = options(memory="1G", time="1h", on_oom="2x", on_walltime="3x", patience=5.0)
    array = replace(plan(made, request(), 3, 2, 80), number=4)
    said = json.loads(secret(made, request(), array, "CERTIFICATE"))
    assert said == {
        "request": 12,
        "token": "TOKEN",
        "urls": list(array.urls),
        "certificate": "CERTIFICATE",
        "path": ["cloudpickle.zip"],
        "array": 4,
        "patience": 5.0,
        "memory_limit": 4 << 30,
        "cpus": None,
        "env": {},
        "time": 9 * 3600,
        "notice": 50.0,
    }


# Grid Engine, by programs on the PATH


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    monkeypatch.setattr(submission, "PAUSE", 0.01)
    return Head(tmp_path, monkeypatch)


def submit(made: Options, host: Any = None, workers: int = 3) -> Any:
    array = replace(plan(made, request(), workers, 0, 80), number=1)
    return submission.submit(made, host or LocalHost(), request(), array, "CERTIFICATE")


def qsub(head: Head, *answers: tuple[str, int]) -> None:
    """Have qsub answer what was captured, the last answer for ever."""
    cases = "".join(
        f"{number}) cat '{CAPTURED / name}' >&{2 if status else 1}; exit {status};;\n"
        for number, (name, status) in enumerate(answers, 1)
    )
    last = cases.splitlines()[-1].partition(")")[2].removesuffix(";;")
    file = head.bin / "qsub"
    note = f"echo qsub \"$@\" >>'{head.log}'"
    file.write_text(f"#!/bin/sh\n{note}\ncase $(grep -c ^qsub '{head.log}') in\n{cases}*) {last};;\nesac\n")
    file.chmod(0o755)


def test_what_was_submitted_is_known_with_its_directory(head: Head) -> None:
    qsub(head, ("qsub-terse-array.txt", 0))
    array = submit(options(time="2h"))
    assert array.job == "1"
    directory = Path(array.directory)
    assert directory.is_absolute()
    assert sorted(file.name for file in directory.iterdir()) == [
        *(
            "array_job",
            "attempted",
            "client.pyz",
            "cloudpickle.zip",
            "errors",
            "job_id",
            "keep",
            "secret.json",
            "sheepdog_012.sh",
            "submit.sh",
        )
    ]
    text = (directory / "sheepdog_012.sh").read_text()
    assert "#$ -t 1-3\n" in text
    assert "#$ -l h_rt=7200\n" in text
    assert find(LocalHost(), array, parse_qsub) == array


@fault(
    (41, "max_u_jobs"), "qsub says that it may take the job later", promise="it is tried again, with pauses, and said"
)
@pytest.mark.parametrize(("captured", "status"), [("qsub-refused-too-many-jobs.txt", 25), ("qsub-no-master.txt", 1)])
def test_a_busy_scheduler_is_tried_again(
    head: Head, captured: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    qsub(head, (captured, status), (captured, status), ("qsub-terse-array.txt", 0))
    assert submit(options()).job == "1"
    assert len(head.ran) == 3
    said = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert len(said) == 2
    assert said[0].endswith("(it may be taken later); trying again")


@pytest.mark.slow
@fault((42, "qmaster down"), "the scheduler stays down", promise="map raises what it said, and nothing is left")
def test_a_scheduler_that_stays_busy_is_given_up(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "PATIENCE", 2.0)
    qsub(head, ("qsub-no-master.txt", 1))
    with pytest.raises(SchedulerBusy, match="unable to send message to qmaster"):
        submit(options())
    assert len(head.ran) > 1
    assert list(head.home.glob(".sheepdog/*")) == []


@fault((43, "max_aj_tasks"), "the site takes smaller array jobs only", promise="there are fewer workers, for all tasks")
def test_too_many_workers_are_clipped_to_what_the_site_takes(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    qsub(head, ("qsub-refused-too-many-tasks.txt", 1), ("qsub-terse-array.txt", 0))
    array = submit(options(), workers=80_000)
    assert array.workers == 75_000
    assert "#$ -t 1-75000\n" in (Path(array.directory) / "sheepdog_012.sh").read_text()
    assert "fewer workers will do: 75000" in caplog.text


def test_a_limit_that_is_none_is_a_refusal(head: Head) -> None:
    qsub(head, ("qsub-refused-too-many-tasks.txt", 1))
    with pytest.raises(TooManyWorkers):
        submit(options(), workers=75_000)
    assert len(head.ran) == 1


@fault(41, "qsub refuses the job for good", promise="map raises what it said, at once")
@pytest.mark.parametrize(
    "file",
    [file for file in sorted(CAPTURED.glob("qsub-refused-*")) if "too-many" not in file.name],
    ids=lambda file: file.stem,
)
def test_a_refusal_is_final(head: Head, file: Path) -> None:
    qsub(head, (file.name, 1))
    with pytest.raises(SchedulerError) as caught:
        submit(options())
    names = ("unknown-pe", "unknown-queue", "unknown-resource")
    unknown = any(name in file.name for name in names)
    assert type(caught.value) is (UnknownResource if unknown else SchedulerError)
    assert file.read_text().split("\n")[0].strip() in str(caught.value)
    assert len(head.ran) == 1


class Breaking:
    """A Host whose connection breaks, before or after the command has run."""

    name = "fear"

    def __init__(self, breaks: Sequence[str]) -> None:
        self.breaks = list(breaks)

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        when = self.breaks.pop(0) if self.breaks else "never"
        if when == "before":
            raise ConnectionLost("lost")
        answer = LocalHost().run(command, input, timeout)
        if when == "after":
            raise ConnectionLost("lost")
        return answer


@fault(40, "the connection breaks while the job is submitted", promise="one array job in the end, never two")
@pytest.mark.parametrize("breaks", [["before"], ["after"], ["before", "after"], ["after", "after"]])
def test_a_broken_connection_leads_to_one_job(head: Head, breaks: list[str], caplog: pytest.LogCaptureFixture) -> None:
    qsub(head, ("qsub-terse-array.txt", 0))
    assert submit(options(), Breaking(breaks)).job == "1"
    assert head.ran == ["qsub -terse -b n -sync n -now n sheepdog_012.sh"]
    assert caplog.text.count("looking whether the job was submitted") == len(breaks)


def test_a_connection_that_breaks_for_ever_is_given_up(head: Head) -> None:
    qsub(head, ("qsub-terse-array.txt", 0))
    host = Breaking(["before"] * 10)
    with pytest.raises(ConnectionLost):
        submit(options(), host)
    assert len(host.breaks) == 10 - TRIES
    assert head.ran == []


# Local processes


def test_local_workers_are_found_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs is a server that does not answer."""
    monkeypatch.setenv("HOME", str(tmp_path))
    made = options("local", patience=60.0, directory=str(tmp_path))
    array = submit(made, workers=2)
    pids = [int(pid) for pid in array.job.split()]
    try:
        assert len(pids) == 2
        scheduler = scheduler_of(made)
        assert scheduler.status(LocalHost(), [array.job])[array.job].running == {"1", "2"}
        assert find(LocalHost(), array, str.strip) == array
        scheduler.cancel(LocalHost(), [replace(array, job=f"{array.job} {os.getpid()}")])  # this process is no worker
        until(lambda: scheduler.status(LocalHost(), [array.job])[array.job].gone, "they have ended")
    finally:
        for pid in pids:
            subprocess.run(["kill", "-9", str(pid)], stderr=subprocess.DEVNULL)
