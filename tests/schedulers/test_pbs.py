"""The example of docs/schedulers.rst: a scheduler for PBS. It is tested on text of the form that PBS prints.

The texts are not captured, as there is no PBS to run here: they are written after PBS's manual pages, and after what
its users show of their jobs.
"""

import getpass
from pathlib import Path

import pytest

from sheepdog.config import Config
from sheepdog.errors import CommandFailed, SchedulerBusy, SchedulerError, TooManyWorkers
from sheepdog.schedulers.job_file import Job
from sheepdog.values.model import JobStatus
from tests.schedulers.head import JOB, Head
from tests.schedulers.pbs import PBSScheduler, parse_ends, parse_states

SCRIPT = """\
#!/bin/sh
#PBS -l select=1:ncpus=4:mem=16512mb:ngpus=1
#PBS -l walltime=28800
#PBS -q long
#PBS -j oe
#PBS -r y
#PBS -S /bin/sh
#PBS -N herd_012_ab
#PBS -J 1-3
"""
QSTAT = """\
Job Id: 41[].head
    Job_Name = herd_012_ab
    Job_Owner = sheep@head
    job_state = B
    queue = long
    array = True
    array_state_count = Queued:1 Running:2 Exiting:0 Expired:1
    array_indices_submitted = 1-4
    comment = Job Array Began at Sat Nov 21 at 15:00

Job Id: 41[1].head
    Job_Name = herd_012_ab
    job_state = R
    exec_host = node1/0
    Variable_List = PBS_O_HOME=/home/sheep,PBS_O_LOGNAME=sheep,
\tPBS_O_PATH=/usr/bin:/bin,PBS_O_SYSTEM=Linux

Job Id: 41[2].head
    job_state = X
    Exit_status = 0

Job Id: 41[3].head
    job_state = E

Job Id: 41[4].head
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0
\t T: 8)

Job Id: 42.head
    job_state = R

Job Id: 43[].head
    job_state = H

Job Id: 43[1].head
    job_state = H

Job Id: 44.head
    job_state = F
    Exit_status = 271
"""
ENDED = """\
Job Id: 41[].head
    job_state = F
    Exit_status = 1

Job Id: 41[1].head
    job_state = F
    Exit_status = 0

Job Id: 41[2].head
    job_state = F
    Exit_status = 271
"""
UNKNOWN = "qstat: Unknown Job Id 45.head\n"


class PBSHead(Head):
    """A head node with PBS's programs."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(directory, monkeypatch, PBSScheduler())
        self.texts = directory / "texts"
        self.texts.mkdir()

    def prints(self, name: str, text: str, status: int = 0, stream: int = 1) -> None:
        (self.texts / name).write_text(text)
        self.program(name, str(self.texts / name), status, stream)


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PBSHead:
    return PBSHead(tmp_path, monkeypatch)


def test_the_job_file() -> None:
    config = Config(queue="long", cpus=4, memory="16G", gpus=1, time="8h")
    script = PBSScheduler().files(JOB, config)["sheepdog_012.sh"].decode()
    assert script.startswith(SCRIPT)
    assert '\ncd "$HOME/.sheepdog" || {' in script
    assert script.endswith('"$here" "${PBS_ARRAY_INDEX:-1}"\n')
    assert "-J" not in PBSScheduler().files(Job(1, "a", "a", "python3", 1), Config())["sheepdog_001.sh"].decode()


def test_each_element_has_its_state() -> None:
    assert parse_states(QSTAT.encode()) == {
        "41[].head": JobStatus(1, frozenset("13")),
        "42.head": JobStatus(running=frozenset("1")),
        "43[].head": JobStatus(1, held=True),
        "44.head": JobStatus(),
    }


def test_how_the_elements_ended() -> None:
    assert [end.text for end in parse_ends(ENDED.encode())] == ["exit status 0", "signal 15"]


@pytest.mark.parametrize(
    ("printed", "job"), [("41[].head\n", "41[].head"), ("Welcome\n42.head.site.org\n", "43[].head")]
)
def test_submit(head: PBSHead, printed: str, job: str) -> None:
    """Done again, it finds what the first time said. What is not an id alone is none."""
    head.prints("qsub", printed)
    head.prints("qselect", "43[].head\n")
    for _ in range(2):
        assert head.submit() == (job, str(head.home / ".sheepdog/herd_012_ab"))
    assert head.ran[0] == "qsub sheepdog_012.sh"
    assert head.ran[1:] == ([f"qselect -u {getpass.getuser()} -N herd_012_ab"] if "Welcome" in printed else [])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("qsub: Unknown queue", SchedulerError),
        ("qsub: cannot connect to server head (errno=111)", SchedulerBusy),
        ("qsub: would exceed queue long's per-user limit of jobs in 'Q' state", SchedulerBusy),
        ("qsub: Array job exceeds server or queue size limit", TooManyWorkers),
    ],
)
def test_a_refusal(head: PBSHead, words: str, error: type[SchedulerError]) -> None:
    head.prints("qsub", words, status=1, stream=2)
    head.prints("qselect", "")
    with pytest.raises(SchedulerError, match=words.replace("(", r"\(").replace(")", r"\)")) as caught:
        head.submit()
    assert type(caught.value) is error
    assert not list((head.home / ".sheepdog").iterdir())


def test_status(head: PBSHead) -> None:
    """Of a job that it does not know, or that has ended, qstat says so, and lists the others."""
    head.prints("qstat", QSTAT, status=153)
    found = head.scheduler.status(head.host, ["41[].head", "45.head"])
    assert found == {"41[].head": JobStatus(1, frozenset("13"))}
    assert head.ran[0] == "qstat -t -f 41[].head 45.head"
    head.prints("qstat", UNKNOWN, status=153, stream=2)
    assert head.scheduler.status(head.host, ["45.head"])["45.head"].gone
    head.prints("qstat", "qstat: cannot connect to server head (errno=111)", status=255, stream=2)
    with pytest.raises(CommandFailed, match="cannot connect"):
        head.scheduler.status(head.host, ["41[].head"])


def test_a_job_that_is_gone(head: PBSHead) -> None:
    head.prints("qstat", ENDED, status=35)
    reason = head.scheduler.status(head.host, ["41[].head"])["41[].head"].reason
    assert "PBS's accounting does not know it yet" in reason  # the same program fails for the ends, too
    head.prints("qstat", ENDED)
    assert head.scheduler.status(head.host, ["41[].head"])["41[].head"].reason == (
        "1 workers ended with exit status 0; 1 workers ended with signal 15"
    )


def test_why_a_job_waits(head: PBSHead) -> None:
    head.prints("qstat", QSTAT.partition("Job Id: 41[4]")[1] + QSTAT.partition("Job Id: 41[4]")[2])
    said = head.scheduler.explain(head.host, "41[].head")
    assert said == "Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0 T: 8)"


def test_cancel(head: PBSHead) -> None:
    """One that has ended is no error."""
    head.prints("qdel", "qdel: Unknown Job Id 41[].head", status=153, stream=2)
    head.prints("qselect", "41[].head\n")
    head.scheduler.cancel(head.host, [head.array("41[].head")])
    assert head.ran[1:] == ["qdel 41[].head"]


def test_it_is_found_by_its_programs(tmp_path: Path) -> None:
    """Grid Engine and Slurm have a qsub, too."""
    scheduler, conf = PBSScheduler(), tmp_path / "pbs.conf"
    which = {"qsub": "/bin/qsub", "pbsnodes": "/bin/pbsnodes"}.get
    environ = {"PBS_CONF_FILE": str(conf)}
    assert scheduler.here(lambda _: None, environ) == (False, "pbsnodes is not on PATH")
    assert scheduler.here(which, environ) == (False, f"pbsnodes is on PATH, and there is no {conf}")
    conf.touch()
    assert scheduler.here(which, environ) == (True, f"pbsnodes is on PATH, and there is a {conf}")
    assert scheduler.there({"qsub", "pbsnodes"}) == "qsub and pbsnodes"
    assert scheduler.there({"qsub", "qconf"}) == ""
