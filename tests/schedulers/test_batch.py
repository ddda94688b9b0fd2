"""What all batch systems have in common, tried on one that does next to nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sheepdog.config import Config
from sheepdog.deployment import Host, LocalHost, SSHHost
from sheepdog.errors import HostError, SchedulerBusy, SchedulerError
from sheepdog.schedulers import Scheduler
from sheepdog.schedulers.batch import BatchSystem, expand, typed, unknown_resource
from sheepdog.schedulers.job_file import Job
from sheepdog.schedulers.site import USUAL, Site
from sheepdog.values.model import ArrayJob, End, JobStatus

JOB = Job(12, "herd_012_ab", ".sheepdog/herd_012_ab", "python3", 3)
HOST = LocalHost()


class Shepherd(BatchSystem):
    """A batch system whose list and accounting are here."""

    name, title, program, lister = "shepherd", "Shepherd", "drive", "herd"
    busy = ("asleep",)
    prefix, element, exact, notice = "#S", "SHEEP", "[0-9]+", 5.0

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[str, JobStatus] = {}
        self.silent: set[str] = set()  # jobs of which it does not say whether they are there
        self.accounting: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.deleting = ["true"]
        self.words = "tired"

    def directives(self, job: Job, config: Config, site: Site | None) -> Iterator[str]:
        yield f"--name {job.name}"

    def commands(self, job: Job, options: Sequence[str]) -> tuple[str, str]:
        return f"drive {job.file}", "true"

    def job_id(self, text: str) -> str:
        return text.strip()

    def jobs(self, host: Host, asked: Sequence[str]) -> dict[str, JobStatus]:
        return self.listed

    def gone(self, host: Host, job: str) -> bool:
        if job in self.silent:
            raise SchedulerError("baa")
        return job not in self.listed

    def named(self, host: Host, name: str) -> list[str]:
        return [job for job in self.listed if name == f"herd_{job}"]

    def delete(self, jobs: Sequence[str]) -> list[str]:
        return self.deleting

    def ends(self, host: Host, job: str) -> list[End]:
        self.asked.append(job)
        if job not in self.accounting:
            raise HostError("it took too long")
        return [End(text) for text in self.accounting[job]]

    def waits(self, host: Host, job: str) -> str:
        if not self.words:
            raise SchedulerError("baa")
        return self.words


@pytest.fixture
def shepherd() -> Shepherd:
    return Shepherd()


def test_it_is_a_scheduler(shepherd: Shepherd) -> None:
    """With an answer to all that it says nothing of."""
    scheduler: Scheduler = shepherd
    assert scheduler.site(HOST, Config()) == USUAL
    files = scheduler.files(JOB, Config())
    assert set(files) == {JOB.file, "submit.sh"}
    assert b"\n#S --name herd_012_ab\n" in files[JOB.file]
    assert b"$SHEEP" in files[JOB.file]
    assert f"drive {JOB.file}".encode() in files["submit.sh"]


def test_how_a_job_ended_is_asked_until_it_is_known(shepherd: Shepherd) -> None:
    shepherd.listed = {"1": JobStatus(running=frozenset("1"))}
    for _ in range(2):
        found = shepherd.status(HOST, ["1", "2"])
        assert found["1"].running == {"1"}
        assert "Shepherd's accounting does not know it yet" in found["2"].reason
    assert shepherd.asked == ["2", "2"]
    shepherd.accounting["2"] = ["exit status 1", "signal 9", "exit status 1"]
    for _ in range(2):
        reason = shepherd.status(HOST, ["1", "2"])["2"].reason
        assert reason == "2 workers ended with exit status 1; 1 workers ended with signal 9"
    assert shepherd.asked == ["2", "2", "2"]


def test_a_job_that_is_asked_about_no_more_is_forgotten(shepherd: Shepherd) -> None:
    shepherd.accounting["2"] = ["exit status 1"]
    shepherd.status(HOST, ["2"])
    shepherd.status(HOST, [])
    shepherd.status(HOST, ["2"])
    assert shepherd.asked == ["2", "2"]


def test_why_a_job_waits_only_improves_a_message(shepherd: Shepherd) -> None:
    assert shepherd.explain(HOST, "1") == "tired"
    shepherd.words = ""
    assert shepherd.explain(HOST, "1") == ""


@pytest.mark.parametrize("script", ["exit 0", "echo no such job >&2; exit 1"])
def test_a_job_that_has_ended_already_is_no_error_to_delete(shepherd: Shepherd, script: str) -> None:
    """It may end while it is being deleted."""
    shepherd.deleting = ["sh", "-c", script]
    shepherd.listed = {"1": JobStatus(1)}
    shepherd.cancel(HOST, [array("1"), array("2")])


@pytest.mark.parametrize("command", [["sh", "-c", "echo I am asleep; exit 1"], ["/nonexistent/butcher"]])
def test_a_batch_system_that_is_down_deletes_nothing(shepherd: Shepherd, command: list[str]) -> None:
    shepherd.deleting = command
    shepherd.listed = {"1": JobStatus(1), "2": JobStatus(1)}
    with pytest.raises(SchedulerBusy, match=f"^{command[0]} on this machine did not delete 1, 2: "):
        shepherd.cancel(HOST, [array("1"), array("2")])


def test_a_job_of_which_nothing_is_said_has_neither_ended_nor_been_deleted(shepherd: Shepherd) -> None:
    shepherd.silent = {"2"}
    assert [*shepherd.status(HOST, ["1", "2"])] == ["1"]
    with pytest.raises(SchedulerBusy, match="lists no array job herd_2, and does not say that 2 is gone"):
        shepherd.cancel(HOST, [array("1"), array("2")])


def array(job: str) -> ArrayJob:
    return ArrayJob(1, f"herd_{job}", "", 3, job=job)


def test_files_that_cannot_be_put_there(shepherd: Shepherd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".sheepdog").write_text("a file")
    with pytest.raises(SchedulerError, match=r"^the job's files cannot be put into \.sheepdog/herd_012_ab on this"):
        shepherd.submit(HOST, JOB, shepherd.files(JOB, Config()))


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("1", ["1"]),
        ("9-12:1", ["9", "10", "11", "12"]),
        ("1-9:4", ["1", "5", "9"]),
        ("3,5,8-9:1", ["3", "5", "8", "9"]),
        (" 7 , 8 ", ["7", "8"]),
        ("2-3", ["2", "3"]),
        ("undefined", []),
        ("", []),
        ("5-4:1", []),
        ("1-3:0", ["1", "2", "3"]),
    ],
)
def test_the_notation_of_elements(text: str, elements: list[str]) -> None:
    assert list(expand(text)) == elements


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("h_vmen", "did you mean h_vmem? There are gpu, h_vmem"), ("zebra", "(There are gpu, h_vmem")],
)
def test_a_resource_that_is_not_known(wrong: str, words: str) -> None:
    assert words in str(unknown_resource("unknown resource", wrong, ["h_vmem", "gpu", "gpu"]))


def test_what_a_person_types() -> None:
    assert typed(HOST, "qstat -f") == "qstat -f"
    assert typed(SSHHost("fear"), "qstat -f") == "ssh fear 'qstat -f'"
