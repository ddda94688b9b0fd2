"""What the verbs of every scheduler promise, tried on each by programs on the PATH: a new one is an entry in a list.

What these programs print has the form of the real ones; texts that were captured are in the tests of each scheduler.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sheepdog.config import Config, registry
from sheepdog.deployment import LocalHost
from sheepdog.errors import SchedulerBusy, SchedulerError, SheepdogError
from sheepdog.schedulers import Scheduler, make_scheduler
from sheepdog.schedulers.job_file import Job
from sheepdog.schedulers.local import LocalScheduler
from sheepdog.schedulers.site import Site
from sheepdog.values.model import ArrayJob, JobStatus
from tests.cluster import until
from tests.faults import fault
from tests.schedulers.pbs import PBSScheduler

JOB = Job(12, "sheepdog_012_ab", ".sheepdog/sheepdog_012_ab", "worker", 3)
TOOLS = (
    *("cat", "chmod", "echo", "grep", "head", "id", "kill", "ls", "mkdir", "mktemp", "mv", "ps", "rm", "rmdir", "sed"),
    *("sh", "sleep", "tail", "tar", "tr"),
)
QSTAT = "<?xml version='1.0'?><job_info><queue_info>{}</queue_info></job_info>"
JOB_LIST = '<job_list state="{}"><JB_job_number>7</JB_job_number><state>{}</state><tasks>{}</tasks></job_list>'
RUNS, WAITS = JOB_LIST.format("running", "r", "1"), JOB_LIST.format("pending", "qw", "2-3:1")
UNKNOWN = "echo '<unknown_jobs><ST_name>7</ST_name></unknown_jobs>'"
KNOWN = 'echo "<JB_job_number>7</JB_job_number><JB_owner>$(id -un)</JB_owner>"'
NO_SUCH_JOB = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
UNDER_LOAD = "echo 'slurm_load_jobs error: Unexpected message received' >&2; exit 0"
SUBJOBS = "".join(rf"Job Id: 7[{number}].head\n job_state = {state}\n\n" for number, state in enumerate("RQQ", 1))


class AnyShell(LocalHost):
    """A host whose login shell may be csh, which takes neither newlines nor "!" in a command."""

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        assert not any(sign in word for word in command for sign in "\n!")
        return super().run(command, input, timeout)


@dataclass(frozen=True)
class Entry:
    """A scheduler, and in each situation its programs: what they do, in the words of a shell."""

    make: Callable[[], Scheduler]
    printed: str
    """What submitting prints."""
    job: str
    takes: Mapping[str, str]
    lists: Mapping[str, str]
    """The first element runs, and the others wait."""
    ended: Mapping[str, str]
    silent: Sequence[Mapping[str, str]] = ()
    """It lists nothing, and that is not true."""
    deletes: str = ""
    """The program that takes jobs away."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Nothing, where no program of its own submits."""
    down: Mapping[str, str] = field(default_factory=dict)


def prints(text: str) -> str:
    return f"printf '%b' \"{text}\""


def asked(list: str, one: str) -> str:
    """A program that lists jobs, or tells of one if that is named with -j."""
    return f'case "$*" in *"-n another"*) ;; *-j*) {one};; *) {list};; esac'


SCHEDULERS = {
    "gridengine": Entry(
        lambda: make_scheduler("gridengine"),
        "7.1-3:1\n",
        "7",
        takes={"qsub": "echo 7.1-3:1"},
        lists={"qstat": asked(f"echo '{QSTAT.format(RUNS + WAITS)}'".replace("'1.0'", '"1.0"'), UNKNOWN)},
        ended={"qstat": asked(f'echo "{QSTAT.format("")}"', UNKNOWN), "qdel": "exit 1"},
        silent=[{"qstat": asked(f'echo "{QSTAT.format("")}"', one)} for one in (KNOWN, "true", "exit 1")],
        deletes="qdel",
        refuses={"qsub": "echo 'Unable to run job: no' >&2; exit 1"},
        down={"qstat": "echo 'error: commlib error' >&2; exit 1"},
    ),
    "slurm": Entry(
        lambda: make_scheduler("slurm"),
        "7\n",
        "7",
        takes={"sbatch": "echo 7"},
        lists={"squeue": asked(prints(r"7|1|RUNNING|None\n7|2-3|PENDING|Resources\n"), NO_SUCH_JOB)},
        ended={"squeue": asked("exit 0", NO_SUCH_JOB), "scancel": "exit 0"},
        silent=[
            {"squeue": "exit 0"},
            {"squeue": UNDER_LOAD},
            {"squeue": asked("exit 0", "echo '7|PENDING'")},
            {"squeue": asked("exit 0", "echo '7|COMPLETED'; echo '7|PENDING'")},
            {"squeue": asked("echo '7|1|RUNNING|None'; " + UNDER_LOAD, NO_SUCH_JOB)},
        ],
        deletes="scancel",
        refuses={"sbatch": "echo 'sbatch: error: no' >&2; exit 1"},
        down={"squeue": "echo 'Unable to contact slurm controller' >&2; exit 1"},
    ),
    "drmaa": Entry(
        lambda: make_scheduler("drmaa"),
        "7.[1-3]\n",
        "7.[1-3]",
        takes={"python3": "case $3 in about) echo 'SGE 8.1.9';; *) echo '7.[1-3]';; esac"},
        lists={"python3": prints(r"SGE 8.1.9\n7.[1-3] 1 running\n7.[1-3] 2 queued_active\n7.[1-3] 3 queued_active\n")},
        ended={"python3": prints(r"SGE 8.1.9\n7.[1-3] 1 gone\n")},
        silent=[{"python3": "exit 0"}, {"python3": "echo SGE 8.1.9"}],
        refuses={"python3": "echo 'DeniedByDrmException: no' >&2; exit 1"},
        down={"python3": "echo 'DrmCommunicationException: no' >&2; exit 1"},
    ),
    "local": Entry(
        lambda: LocalScheduler(os.environ["HOME"]),
        "41 42 43\n",
        "41 42 43",
        takes={"worker": '[ "$3" != 1 ] || while [ -d "$HOME/run" ]; do sleep 0.1; done'},
        lists={},  # its processes themselves are looked at
        ended={},
    ),
    "pbs": Entry(
        PBSScheduler,
        "7[].head\n",
        "7[].head",
        takes={"qsub": "echo '7[].head'"},
        lists={"qstat": prints(SUBJOBS)},
        ended={
            "qstat": "echo 'qstat: Unknown Job Id' >&2; exit 153",
            "qselect": "exit 0",
            "qdel": "echo 'qdel: Unknown Job Id' >&2; exit 153",
        },
        silent=[{"qstat": "exit 0", "qselect": "exit 0"}],
        deletes="qdel",
        refuses={"qsub": "echo 'qsub: no' >&2; exit 1", "qselect": "exit 0"},
        down={"qstat": "echo 'qstat: cannot connect to server' >&2; exit 255"},
    ),
}


class Place:
    """A host on which nothing is but this scheduler."""

    def __init__(self, entry: Entry, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entry = entry
        self.bin = directory / "bin"
        self.home = directory / "home"
        self.log = directory / "log"
        for made in (self.bin, self.home, self.home / "run"):
            made.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("HOME", str(self.home))
        self.host = AnyShell()
        self.scheduler = entry.make()
        self.directory = ""

    def have(self, programs: Mapping[str, str]) -> None:
        """Put programs on the PATH."""
        for name, text in programs.items():
            file = self.bin / name
            file.write_text(f"#!/bin/sh\necho {name} >>'{self.log}'\n{text}\n")
            file.chmod(0o755)

    def submit(self) -> tuple[str, str]:
        files = {**self.scheduler.files(JOB, Config()), "secret.json": b"secret"}
        return self.scheduler.submit(self.host, JOB, files)

    def array(self, job: str, directory: str) -> ArrayJob:
        return ArrayJob(1, JOB.name, directory, JOB.workers, job=job)

    def status(self, job: str) -> JobStatus:
        return self.scheduler.status(self.host, [job])[job]

    def started(self) -> str:
        """Submit the job, and return its id when its first element is listed as running."""
        self.have(self.entry.takes)
        job, self.directory = self.submit()
        self.have(self.entry.lists)
        until(lambda: self.status(job).running == {"1"}, "the first element runs")
        return job

    def end(self, job: str) -> None:
        """Let the workers end by themselves."""
        self.have(self.entry.ended)
        shutil.rmtree(self.home / "run")
        until(lambda: self.status(job).gone, "they have ended")


@pytest.fixture(params=SCHEDULERS)
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(SCHEDULERS[request.param], tmp_path, monkeypatch)
    assert made.scheduler.name == request.param
    yield made
    shutil.rmtree(made.home / "run", ignore_errors=True)  # local workers look at it


def test_every_scheduler_is_tried() -> None:
    assert {*registry.SCHEDULERS} < {*SCHEDULERS}


def test_a_scheduler_says_how_often_it_may_be_asked_and_how_early_it_warns(there: Place) -> None:
    assert there.scheduler.interval >= 1
    assert there.scheduler.notice > 0


def test_site(there: Place) -> None:
    there.have(there.entry.takes)
    assert isinstance(there.scheduler.site(there.host, Config()), Site)


def test_files(there: Place) -> None:
    """They are the same each time, also without a site, and hold no secret."""
    files = there.scheduler.files(JOB, Config())
    assert files["submit.sh"]
    assert {type(content) for content in files.values()} == {bytes}
    assert {*files}.isdisjoint({"secret.json", "client.pyz", "cloudpickle.zip"})
    assert files == there.scheduler.files(JOB, Config(), Site())


def test_submit_is_safe_to_repeat(there: Place) -> None:
    there.have(there.entry.takes)
    job, directory = there.submit()
    assert directory == str(there.home / JOB.directory)
    assert (Path(directory) / "secret.json").stat().st_mode & 0o777 == 0o600
    assert Path(directory).stat().st_mode & 0o777 == 0o700
    ran = there.log.read_text().splitlines()
    assert there.submit() == (job, directory)
    if there.scheduler.name != "local":  # its workers are running
        assert job == there.entry.job
        assert there.log.read_text().splitlines() == ran == [*there.entry.takes]


def test_a_refusal_is_an_error_with_its_words_and_leaves_nothing(there: Place) -> None:
    if not there.entry.refuses:
        pytest.skip("nothing refuses")
    there.have(there.entry.refuses)
    with pytest.raises(SchedulerError, match="no"):
        there.submit()
    assert list((there.home / ".sheepdog").iterdir()) == []


def test_without_its_programs_submitting_is_an_error_that_names_the_host(there: Place) -> None:
    with pytest.raises(SchedulerError, match="this machine"):
        there.submit()


def test_job_id(there: Place) -> None:
    assert there.scheduler.job_id(there.entry.printed) == there.entry.job


def test_status_tells_of_the_jobs_asked_about_and_no_others(there: Place) -> None:
    job = there.started()
    found = there.scheduler.status(there.host, [job, "999999"])
    assert {*found} <= {job, "999999"}
    assert found[job].running == {"1"}
    assert found[job].reason == ""
    assert "999999" not in found or found["999999"].gone
    assert there.scheduler.status(there.host, []) == {}


def test_a_job_that_has_ended_is_gone_for_a_reason(there: Place) -> None:
    job = there.started()
    there.end(job)
    assert there.status(job).reason


def test_a_scheduler_that_does_not_answer_is_no_end(there: Place) -> None:
    if not there.entry.down:
        pytest.skip("there is nothing that could be down")
    job = there.started()
    there.have(there.entry.down)
    with pytest.raises(SheepdogError):
        there.status(job)


def test_explain_returns_a_text_whatever_happens(there: Place) -> None:
    for ask in (there.scheduler.explain, there.scheduler.hopeless):
        assert ask(there.host, "7") == ""
    there.have(there.entry.down)
    for ask in (there.scheduler.explain, there.scheduler.hopeless):
        assert ask(there.host, "7") == ""


def test_cancel(there: Place) -> None:
    """A job that has ended already is no error."""
    job = there.started()
    there.end(job)
    there.scheduler.cancel(there.host, [there.array(job, there.directory)])
    assert there.entry.deletes not in there.log.read_text().splitlines()


@fault(
    "silence",
    "a list that is empty under load, with status 0, though the job waits",
    promise="it is no end: of that job it is asked by itself, and only a plain word counts",
)
def test_silence_is_no_end_and_no_leave_to_forget_a_job(there: Place) -> None:
    job = there.started()
    for programs in there.entry.silent:
        there.have(programs)
        try:
            assert job not in there.scheduler.status(there.host, [job])
        except SheepdogError:
            pass
        there.have({there.entry.deletes: "exit 0"} if there.entry.deletes else {})
        if there.entry.deletes:
            try:
                there.scheduler.cancel(there.host, [there.array(job, there.directory)])
            except SchedulerBusy:
                continue
            assert there.log.read_text().splitlines()[-1] == there.entry.deletes


def test_what_has_another_name_is_not_taken_away(there: Place) -> None:
    """An id alone is no proof: a wrapper of the site's may have printed it."""
    job = there.started()
    there.have({there.entry.deletes: "exit 0"} if there.entry.deletes else {})
    other = ArrayJob(1, "another", "/nowhere/another", 3, job=job)
    if there.scheduler.name != "drmaa":  # its ids are from no program of the site's
        there.have({"qselect": "exit 0"})
        try:
            there.scheduler.cancel(there.host, [other])
        except SchedulerBusy:
            pass
    assert there.entry.deletes not in there.log.read_text().splitlines()
    assert there.status(job).running == {"1"}
