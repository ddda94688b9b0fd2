"""Slurm: the parsers on what it really printed, the verbs with programs on the PATH that print it again."""

import getpass
from pathlib import Path

import pytest

from sheepdog.config import Config, make_config
from sheepdog.deployment import make_host
from sheepdog.errors import HostError, SchedulerBusy, SchedulerError, TooManyWorkers
from sheepdog.schedulers.batch import WORKER_MEMORY
from sheepdog.schedulers.job_file import Job
from sheepdog.schedulers.slurm import (
    SlurmScheduler,
    directives,
    parse_config,
    parse_ends,
    parse_gone,
    parse_reason,
    parse_sbatch,
    parse_squeue,
)
from sheepdog.values.model import End, Fate, JobStatus
from tests.faults import fault
from tests.schedulers.head import Head

CAPTURED = Path(__file__).parent / "captured" / "slurm"
HELD = JobStatus(3, held=True)
ODD = JobStatus(28, held=True)  # 1,3-5,9,20,27,34,41,48,55,62,69,76,83,90,97,300-310
TOO_MUCH = "Slurm cannot start the array job {} as things are: "
PARTITION = "PartitionConfig (it asks for more than a node of the partition has, or for more than the partition allows)"
TIME = "PartitionTimeLimit (it asks for more time than the partition allows)"


def running(pending: int, *elements: int) -> JobStatus:
    return JobStatus(pending, frozenset(map(str, elements)))


# The parsers

SQUEUE = {
    "empty": {},
    "array": {"17": (36, 4), "24": (5, 1), "23": (2, 0), "11": (0, 1)},
    "requeued-and-cancelled": {"17": (36, 4), "11": (0, 1)},
    "requeued": {"17": (36, 4), "11": (0, 1)},
    "suspended": {"17": (35, 5), "11": (0, 1)},
    "requeue-hold": {"17": (35, 5), "11": (0, 1)},
    "node-fail": {},
}
REASONS = {
    "24": "JobArrayTaskLimit (as many of its elements run as may run at once)",
    "27": "BeginTime (its time to begin has not come, or it was requeued just now)",
    "18": "JobHeldUser",
    "23": PARTITION,
    "17": "Resources (no node is free)",
    "25": TIME,
    "4711": "",
}
ENDS = {
    "sacct-cancelled": ["CANCELLED by 7001"] * 12,
    "sacct-completed": ["COMPLETED"] * 2,
    "sacct-failed": ["FAILED, exit status 7"] * 3,
    "sacct-node-fail": ["NODE_FAIL"],
    "sacct-out-of-memory": ["FAILED, signal 9"],
    "sacct-signal": ["FAILED, signal 11"],
    "sacct-timeout": ["TIMEOUT"],
    "sacct-unknown": [],
    "sacct-disabled": [],
    "scontrol-show-job-cancelled": ["CANCELLED"] * 2,
    "scontrol-show-job-failed": ["FAILED, exit status 7"] * 3,
    "scontrol-show-job-unknown": [],
}


def read(name: str) -> bytes:
    return (CAPTURED / f"{name}.txt").read_bytes()


@pytest.mark.parametrize("name", SQUEUE)
def test_the_jobs_of_a_user(name: str) -> None:
    found = parse_squeue(read(f"squeue-{name}"))
    for job, (pending, elements) in SQUEUE[name].items():
        assert (found[job].pending, len(found[job].running)) == (pending, elements)
        assert not found[job].broken
        assert not found[job].held
    assert bool(found) == (name != "empty")


def test_each_element_has_its_state() -> None:
    found = parse_squeue(read("squeue-array"))
    assert found["17"] == running(36, 1, 2, 3, 4)
    assert found["18"] == HELD
    assert found["26"] == ODD
    assert found["23"] == JobStatus(2, reason=TOO_MUCH.format(23) + PARTITION)
    assert found["25"] == JobStatus(1, reason=TOO_MUCH.format(25) + TIME)


def test_what_slurm_has_given_up_starting() -> None:
    status = parse_squeue(read("squeue-launch-failed"))["5"]
    assert status == JobStatus(
        running=frozenset("15678"),
        broken=True,
        reason="Slurm has given up starting the array job 5 (launch failed requeued held)",
    )


def test_a_suspended_element_is_there_still() -> None:
    assert "2" in parse_squeue(read("squeue-suspended"))["17"].running


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("7|2|COMPLETING|None", running(0, 2)),
        ("7|3|CONFIGURING|None", running(0, 3)),
        ("7|3|COMPLETED|None", None),
        ("7|3|NODE_FAIL|NodeDown", None),
        ("7|N/A|RUNNING|None", running(0, 1)),
        ("7|1-4%2|PENDING|JobHeldAdmin,JobHeldUser", JobStatus(4, held=True)),
        ("7|1-4|PENDING|Priority,JobHeldUser", JobStatus(4)),
        ("7|1|PENDING|Nodes required for job are DOWN, DRAINED or reserved for other jobs", JobStatus(1)),
        ("7|1|PENDING|ReqNodeNotAvail, UnavailableNodes:node[1-2]", "a node that it needs is not available"),
        ("7|1|PENDING|launch failed requeued held", "given up starting"),
        ("7|1|SPECIAL_EXIT|None", "given up starting"),
        ("Welcome to head | a | b | c", None),
    ],
)
def test_what_states_mean(line: str, status: JobStatus | str | None) -> None:
    found = parse_squeue(f"{line}\n".encode()).get("7")
    if isinstance(status, str):
        assert found is not None
        assert status in found.reason
        assert found.broken == (status == "given up starting")
    else:
        assert found == status


@pytest.mark.parametrize("job", REASONS)
@fault("wrappers", "a squeue that prints more", promise="none of it is taken for why a job waits")
def test_why_a_job_waits(job: str) -> None:
    said = read("squeue-array")
    assert parse_reason(said, job) == REASONS[job]
    assert parse_reason(b"Welcome\nto|the|cluster|of us\n" + said + b"Thank you\n", job) == REASONS[job]


@pytest.mark.parametrize("name", ENDS)
def test_how_the_elements_of_a_job_ended(name: str) -> None:
    assert [end.text for end in parse_ends(read(name))] == ENDS[name]


def test_what_ended_each_element() -> None:
    said = b"CANCELLED by 7001|0:0|13_[3-5%2]|None assigned\nCANCELLED by 0|0:15|13_1|node1\nTIMEOUT|0:0|13_2|node2\n"
    assert [(end.element, end.host, end.fate) for end in parse_ends(said)] == [
        *((name, "", Fate.DELETED) for name in "345"),
        ("1", "node1", Fate.DELETED),
        ("2", "node2", Fate.OTHER),
    ]
    [cancelled, *_] = parse_ends(read("scontrol-show-job-cancelled"))
    assert (cancelled.element, cancelled.fate) == ("2", Fate.DELETED)
    assert parse_ends(b"COMPLETED|0:0|7|node1\n") == [End("COMPLETED", Fate.ITSELF, "1", "node1")]
    waiting = b"JobId=7 ArrayJobId=7 ArrayTaskId=1 JobState=PENDING Requeue=1 ExitCode=0:0 NodeList= NumNodes=1\n"
    assert parse_ends(waiting) == []
    assert parse_ends(waiting.replace(b"PENDING", b"CANCELLED")) == [End("CANCELLED", Fate.DELETED, "1", "")]


def test_what_the_accounting_does_not_know_yet_the_controller_says() -> None:
    said = b"CANCELLED by 7001|0:0|12_2|node2\n" + read("scontrol-show-job-cancelled")
    assert [(end.element, end.text) for end in parse_ends(said)] == [("2", "CANCELLED by 7001"), ("1", "CANCELLED")]


@pytest.mark.parametrize(("text", "job"), [("12\n", "12"), ("12;test\n", "12")])
def test_the_number_of_a_job(text: str, job: str) -> None:
    assert parse_sbatch(text) == job
    assert parse_sbatch(read("sbatch-parsable-array").decode()) == "1"


@pytest.mark.parametrize("file", sorted(CAPTURED.glob("sbatch-refused-*")), ids=lambda file: file.stem)
def test_a_refusal_is_no_number(file: Path) -> None:
    with pytest.raises(SchedulerError, match="not the number of a job"):
        parse_sbatch(file.read_text())


@pytest.mark.parametrize("text", ["sbatch: note\n7\n", "7\nThank you\n", "7 157", ""])
def test_what_is_not_exactly_a_number_is_none(text: str) -> None:
    with pytest.raises(SchedulerError, match="not the number of a job"):
        parse_sbatch(text)


def test_the_limits_of_a_site() -> None:
    assert parse_config(read("scontrol-show-config"))["MaxArraySize"] == "1001"


def test_every_captured_file_has_its_test() -> None:
    tested = {f"squeue-{name}" for name in SQUEUE} | ENDS.keys()
    tested |= {"sbatch-parsable-array", "scontrol-show-config", "README"}
    tested |= {
        "squeue-launch-failed",
        "squeue-reason-unknown",
        "squeue-no-controller",
        "sbatch-no-controller",
        "scancel-no-controller",
        "scancel-done",
        "scancel-unknown",
    }
    others = {file.stem for file in CAPTURED.iterdir()} - tested
    assert {name for name in others if not name.startswith("sbatch-refused-")} == set()


# The verbs

JOB = Job(12, "herd_012_ab", ".sheepdog/herd_012_ab", "python3", 5)


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    return Head(tmp_path, monkeypatch, SlurmScheduler(), CAPTURED, JOB)


def test_submit(head: Head) -> None:
    head.program("sbatch", "sbatch-parsable-array.txt")
    there = head.home / ".sheepdog/herd_012_ab"
    for _ in range(2):  # the second is for a connection that broke
        assert head.submit() == ("1", str(there))
    said = "--output=%x.o%A.%a --open-mode=append --requeue --job-name=herd_012_ab --array=1-5"
    assert head.ran == [f"sbatch --parsable {said} sheepdog_012.sh"]
    assert "#SBATCH --array=1-5\n" in (there / "sheepdog_012.sh").read_text()


def test_sbatch_is_told_the_options_itself(head: Head) -> None:
    """Word for word: for it, what start-up files set goes before what the job file says."""
    options = ["-p low  # a comment", "--comment='two words; $HOME' --nice", "--constraint=[a&b|c]*2"]
    submit, _ = head.scheduler.commands(JOB, options)
    head.program("sbatch")
    program = (head.bin / "sbatch").read_text().replace('echo sbatch "$@"', "printf '%s\\n' \"$@\"")
    (head.bin / "sbatch").write_text(program)
    head.host.run(["sh", "-c", submit])
    words = ["-p", "low", "--comment=two words; $HOME", "--nice", "--constraint=[a&b|c]*2"]
    assert head.ran == ["--parsable", *words, "sheepdog_012.sh"]


@fault(40, "sbatch says that the controller was too slow, which took the job all the same", promise="one array job")
def test_a_job_that_was_taken_though_sbatch_failed_is_found(head: Head) -> None:
    head.program("sbatch", "sbatch-no-controller.txt", 1, stream=2)
    squeue = head.bin / "squeue"
    squeue.write_text(f"#!/bin/sh\necho squeue \"$@\" >>'{head.log}'\necho '4711|RUNNING|node1'\n")
    squeue.chmod(0o755)
    assert head.submit()[0] == "4711"
    assert "-n herd_012_ab -o %F|%T|%N" in head.ran[-1]


def test_the_record_of_a_refused_array_is_no_job(head: Head) -> None:
    head.program("sbatch", "sbatch-refused-never-fits.txt", 1, stream=2)
    squeue = head.bin / "squeue"
    squeue.write_text("#!/bin/sh\necho '4711|FAILED|'\n")
    squeue.chmod(0o755)
    with pytest.raises(SchedulerError, match="Requested node configuration is not available"):
        head.submit()
    squeue.write_text("#!/bin/sh\necho '4711|FAILED|node1'\n")  # one that ran
    assert head.submit()[0] == "4711"


@fault(41, "a submission that Slurm refuses", promise="an error with its words, and whether to try again")
@pytest.mark.parametrize(
    ("captured", "status", "kind", "words"),
    [
        ("sbatch-refused-unknown-partition", 1, SchedulerError, "invalid partition specified: none"),
        ("sbatch-refused-unknown-option", 255, SchedulerError, "unrecognized option '--nosuch'"),
        ("sbatch-refused-never-fits", 1, SchedulerError, "Requested node configuration is not available"),
        ("sbatch-no-controller", 1, SchedulerBusy, "Unable to contact slurm controller"),
        ("sbatch-refused-too-many-jobs", 1, TooManyWorkers, "AssocMaxSubmitJobLimit"),
        ("sbatch-refused-too-many-jobs-of-qos", 1, TooManyWorkers, "QOSMaxSubmitJobPerUserLimit"),
    ],
)
def test_a_refusal_is_quoted_and_leaves_nothing(head: Head, captured: str, status: int, kind: type, words: str) -> None:
    head.program("sbatch", f"{captured}.txt", status, stream=2)
    head.program("squeue", "squeue-empty.txt")
    with pytest.raises(SchedulerError, match="sbatch on this machine refused the job") as caught:
        head.submit()
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert list(head.home.glob(".sheepdog/*")) == []
    if isinstance(caught.value, TooManyWorkers):
        assert caught.value.limit == 2  # half of them


def test_as_many_workers_as_the_site_takes(head: Head) -> None:
    head.program("sbatch", "sbatch-refused-too-many-elements.txt", 1, stream=2)
    head.program("scontrol", "scontrol-show-config.txt")
    small = SlurmScheduler().refused(head.host, JOB, "Invalid job array specification", 1)
    assert small is None  # it is not for their number
    large = Job(12, "herd_012_ab", ".sheepdog/herd_012_ab", "python3", 5000)
    with pytest.raises(TooManyWorkers, match=r"MaxArraySize is 1001") as caught:
        head.scheduler.submit(head.host, large, head.scheduler.files(large, Config()))
    assert caught.value.limit == 1000


def test_a_single_worker_that_is_too_many_may_be_taken_later(head: Head) -> None:
    for workers, kind in ((1, SchedulerBusy), (2, TooManyWorkers)):
        said = head.scheduler.refused(head.host, JOB._replace(workers=workers), "AssocMaxSubmitJobLimit", 1)
        assert type(said) is kind


def test_without_sbatch_the_user_learns_where_to_look(head: Head) -> None:
    with pytest.raises(SchedulerError, match=r"there is no sbatch on this machine: .*`squeue`"):
        head.submit()


def test_one_question_tells_of_all_jobs(head: Head) -> None:
    head.program("squeue", "squeue-array.txt")
    status = head.scheduler.status(head.host, ["17", "18"])
    assert status == {"17": running(36, 1, 2, 3, 4), "18": HELD}
    assert len(head.ran) == 1


@fault("late accounting", "a job that is gone, without accounting", promise="the controller's word, while it has one")
def test_a_job_that_is_gone_has_a_reason(head: Head) -> None:
    head.program("squeue", "squeue-reason-unknown.txt", 1, stream=2)
    with pytest.raises(HostError, match="Invalid job id"):
        head.scheduler.status(head.host, ["7"])
    lists(head, "squeue-empty.txt", "squeue-reason-unknown.txt")
    assert "Slurm's accounting does not know it" in head.scheduler.status(head.host, ["7"])["7"].reason
    head.program("sacct", "sacct-disabled.txt", 1, stream=2)
    head.program("scontrol", "scontrol-show-job-unknown.txt", 1, stream=2)
    assert "Slurm's accounting does not know it" in head.scheduler.status(head.host, ["7"])["7"].reason
    head.program("scontrol", "scontrol-show-job-failed.txt")
    for _ in range(2):
        assert head.scheduler.status(head.host, ["7"])["7"].reason == "3 workers ended with FAILED, exit status 7"
    assert head.ran.count("scontrol -o show job 7") == 2
    head.program("sacct", "sacct-timeout.txt")
    head.program("scontrol", "scontrol-show-job-unknown.txt", 1, stream=2)
    assert head.scheduler.status(head.host, ["8"])["8"].reason == "1 workers ended with TIMEOUT"


def lists(head: Head, captured: str, one: str) -> None:
    """Have squeue list this, and of one job tell that."""
    squeue = head.bin / "squeue"
    squeue.write_text(
        f"#!/bin/sh\necho squeue \"$@\" >>'{head.log}'\n"
        f"case \"$*\" in *-j*) cat '{CAPTURED}/{one}' >&2; exit 1;; *) cat '{CAPTURED}/{captured}';; esac\n"
    )
    squeue.chmod(0o755)


@fault("silence", "squeue ends with 0 and says of an error", promise="it is no answer, whatever it lists")
@pytest.mark.parametrize("listed", ["", "7|1|RUNNING|None"])
def test_a_list_with_an_error_beside_it_is_no_answer(head: Head, listed: str) -> None:
    squeue = head.bin / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '{listed}'; echo 'slurm_load_jobs error: Socket timed out' >&2\n")
    squeue.chmod(0o755)
    with pytest.raises(HostError, match="Socket timed out"):
        head.scheduler.status(head.host, ["7", "8"])
    squeue.write_text(f"#!/bin/sh\necho '{listed}'; echo 'squeue: error: Duplicated NodeHostName n1' >&2\n")
    assert [*head.scheduler.status(head.host, ["7", "8"])] == (["7"] if listed else [])


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("slurm_load_jobs error: Invalid job id specified", True),
        ("7|COMPLETED\n7|CANCELLED\n", True),
        ("7|COMPLETED\n7|PENDING\n", False),
        ("7|COMPLETING\n", False),
        ("17|COMPLETED\n", False),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", False),
        ("", False),
    ],
)
def test_whether_a_job_is_gone(said: str, gone: bool) -> None:
    assert parse_gone(said.encode(), "7") == gone


@fault((42, "qmaster down"), "slurmctld is down", promise="an error, never taken for the end of the jobs")
def test_a_controller_that_does_not_answer_is_an_error_not_an_end(head: Head) -> None:
    head.program("squeue", "squeue-no-controller.txt", 1, stream=2)
    with pytest.raises(HostError, match="Unable to contact slurm controller"):
        head.scheduler.status(head.host, ["7"])
    assert head.scheduler.explain(head.host, "7") == ""


def test_explain(head: Head) -> None:
    head.program("squeue", "squeue-array.txt")
    assert head.scheduler.explain(head.host, "17") == "Resources (no node is free)"
    assert head.ran == ["squeue -h -a -t PD -j 17 -o %F|%K|%T|%r"]
    head.program("squeue", "squeue-reason-unknown.txt", 1, stream=2)
    assert head.scheduler.explain(head.host, "17") == ""
    assert head.scheduler.explain(make_host("nobody.invalid"), "17") == ""


def test_cancel(head: Head) -> None:
    """The job is the one that has the name, whatever id was noted."""
    head.program("scancel", "scancel-done.txt")
    (head.bin / "named").write_text("4711|PENDING\n4711|RUNNING\n")
    head.program("squeue", str(head.bin / "named"))
    head.scheduler.cancel(head.host, [head.array("157")])
    assert head.ran == [f"squeue -h -a -u {getpass.getuser()} -n herd_012_ab -o %F|%T", "scancel -Q 4711"]
    head.program("scancel", "scancel-no-controller.txt", 1, stream=2)
    with pytest.raises(SchedulerBusy, match="did not delete 4711"):
        head.scheduler.cancel(head.host, [head.array("4711")])


@fault("cancel", "Slurm does not say whether the job is there", promise="that is tried again")
@pytest.mark.parametrize(("status", "stream"), [(0, 1), (0, 2), (1, 2)])
def test_a_job_of_which_nothing_is_said_is_to_be_deleted_later(head: Head, status: int, stream: int) -> None:
    head.program("squeue", "squeue-empty.txt" if stream == 1 else "squeue-no-controller.txt", status, stream)
    with pytest.raises(SchedulerBusy, match="does not say"):
        head.scheduler.cancel(head.host, [head.array("4711")])


# The options of the job file


def options(**config: object) -> list[str]:
    return list(directives(JOB, make_config(config, environ={}, directory="/nowhere", home="/nowhere")))


OURS = ["--job-name=herd_012_ab", "--array=1-5"]


def test_the_options_of_a_job() -> None:
    assert options() == ["--output=%x.o%A.%a", "--open-mode=append", "--requeue", *OURS]


def test_the_users_options_come_first_and_stand_in_for_ours() -> None:
    given = ["-o out", "--open-mode=truncate", "--no-requeue", "-p long"]
    assert options(slurm_opts=given) == [*given, *OURS]


@pytest.mark.parametrize("option", ["--chdir=/data/a b", "--chdir '/data/a b'", "-D '/data/a b'"])
def test_the_job_file_changes_the_directory_itself(option: str) -> None:
    """For Slurm would run it in /tmp if there is none."""
    config = Config(slurm_opts=(option,) if "'" in option else ("--chdir='/data/a b'",))
    script = SlurmScheduler().files(JOB, config)[JOB.file].decode()
    assert "\ncd '/data/a b' || {" in script
    assert "#SBATCH --chdir" not in script
    assert "#SBATCH -D" not in script
    assert '\ncd "$HOME/.sheepdog" || {' in SlurmScheduler().files(JOB, Config())[JOB.file].decode()


def test_resources_are_asked_for() -> None:
    said = options(memory="2G", time="1:30:30", cpus=4, gpus=2, queue="long")
    for option in (f"--mem={2048 + WORKER_MEMORY // 2**20}M", "--time=91", "--cpus-per-task=4", "--gres=gpu:2"):
        assert option in said
    assert "--partition=long" in said


def test_raised_resources_are_asked_for() -> None:
    config = Config(memory="1G", time="1h", on_oom="2x", on_walltime="1.5x").raised(2)
    said = list(directives(JOB, config))
    assert f"--mem={4096 + WORKER_MEMORY // 2**20}M" in said
    assert "--time=135" in said
