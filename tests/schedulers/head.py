"""A head node on this machine: a PATH on which programs print what was captured."""

import shutil
from pathlib import Path

import pytest

from sheepdog.config import Config
from sheepdog.deployment import LocalHost
from sheepdog.schedulers.batch import BatchSystem
from sheepdog.schedulers.gridengine import GridEngineScheduler
from sheepdog.schedulers.job_file import Job
from sheepdog.values.model import ArrayJob

CAPTURED = Path(__file__).parent / "captured" / "gridengine"
JOB = Job(12, "herd_012_ab", ".sheepdog/herd_012_ab", "python3", 3)
TOOLS = [
    "sh",
    "cat",
    "dd",
    "chmod",
    "cmp",
    "echo",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "sed",
    "sleep",
    "tail",
    "tar",
    "touch",
]


class Head:
    """A head node: programs on the PATH, which note that they were run, and print what was captured."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        scheduler: BatchSystem | None = None,
        captured: Path = CAPTURED,
        job: Job = JOB,
    ) -> None:
        self.bin = directory / "bin"
        self.home = directory / "home"
        self.log = directory / "log"
        self.captured = captured
        self.job = job
        for made in (self.bin, self.home):
            made.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("HOME", str(self.home))
        self.host = LocalHost()
        self.scheduler = scheduler or GridEngineScheduler()

    def program(self, name: str, captured: str = "", status: int = 0, stream: int = 1) -> None:
        """Put a program on the PATH, which prints this file."""
        file = self.bin / name
        text = f"cat '{self.captured / captured}' >&{stream}" if captured else ""
        file.write_text(f"#!/bin/sh\necho {name} \"$@\" >>'{self.log}'\n{text}\nexit {status}\n")
        file.chmod(0o755)

    @property
    def ran(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def array(self, id: str) -> ArrayJob:
        """Return the array job as it is noted, with this id."""
        return ArrayJob(1, self.job.name, self.job.directory, self.job.workers, job=id)

    def submit(self) -> tuple[str, str]:
        files = {**self.scheduler.files(self.job, Config()), "secret.json": b"secret"}
        return self.scheduler.submit(self.host, self.job, files)
