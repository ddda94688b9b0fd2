"""The main road on a real Slurm: with accounting, and without."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, HostFailed
from tests.faults import fault
from tests.on_cluster.programs import SETUP, main_job, own_modules, run, what_is_left
from tests.user import User
from tests.waiting import until


@pytest.fixture
def user(slurm_user: User) -> User:
    """Somebody who uses Slurm."""
    return slurm_user


# --- the main job


def test_the_main_job(user: User) -> None:
    assert main_job(user, slurm_opts=["--nodelist=node1", "-t 10"]) == [[2, 3, 4], [17, 20, 23], ["node1"] * 5]


def test_ten_thousand_tasks(user: User) -> None:
    """On eight slots they are one array job, both nodes work, and nothing is left in the queue."""
    code = """
        host = lambda i: (i, __import__("socket").gethostname())
        results = sheepdog.map(host, ((i,) for i in range(10000)), C)
        show([[i for i, _ in results] == list(range(10000)), sorted({name for _, name in results})])
    """
    assert run(user, code) == [True, ["node1", "node2"]]
    until(lambda: not user.queue(), "the elements that are not needed are deleted", timeout=60)


@fault("own modules", "own modules are nowhere on the cluster", promise="they come with the request, once")
def test_own_modules(user: User) -> None:
    own_modules(user)


def test_environment_of_a_task(user: User) -> None:
    """Slurm's variables stay, ours come on top; the working directory is ssh_dir; the output is in the job's own."""
    code = """
        names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SHEEPDOG_REQUEST_ID", "SHEEPDOG_ATTEMPT")
        files = lambda: [[name, os.listdir(name)] for name in os.listdir(".") if name.startswith("lamb_001_")][0]
        look = lambda: [*map(os.environ.get, names), os.getcwd(), *files()]
        show(sheepdog.map(look, [()], {**C, "name": "lamb"}))
    """
    [[job, *rest, name, files]] = run(user, code)
    assert job.isdigit()
    assert rest == ["1", "1", "1", "/home/sheep/.sheepdog"]
    assert f"{name}.o{job}.1" in files


@fault(
    "files left",
    "requests on Slurm go well, fail, are removed, or are too old",
    promise="nothing stays but the archives, and for a while what tells of failures",
)
def test_what_is_left(user: User) -> None:
    kept = ["array_job", "job_id", "keep", "sheepdog_002.sh"]
    assert what_is_left(user) == [[], kept, [], [*kept[:3], "sheepdog_003.sh"]]


def test_lines_and_variables_are_set_up_on_the_node(user: User) -> None:
    assert run(user, SETUP) == [["on a node", "for a task", "2"], True, False]


def test_resources(user: User) -> None:
    """And a host that is given says itself that it has Slurm."""
    code = """
        C.update(cpus=2, gpus=1, memory="1G", queue="low", time="1h", workers=1, scheduler=None)
        names = ("SLURM_CPUS_PER_TASK", "SLURM_GPUS_ON_NODE", "SLURM_MEM_PER_NODE", "SLURM_JOB_PARTITION")
        ask = ["squeue", "-h", "-j", "$SLURM_JOB_ID", "-o", "%l"]
        time = lambda: subprocess.run(["sh", "-c", " ".join(ask)], capture_output=True, text=True).stdout.strip()
        show(sheepdog.map(lambda: [*map(os.environ.get, names), time()], [()], C))
    """
    assert run(user, code) == [["2", "1", "1152", "low", "1:00:00"]]
    assert "scheduler: slurm (head has sbatch and no qsub)" in user.said


@pytest.fixture
def bashrc(user: User) -> Iterator[Path]:
    """The start-up file of the user's shell on head, for a while."""
    file = user.cluster.home_of("sheep") / ".bashrc"
    before = file.read_text() if file.exists() else None
    yield file
    if before is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(before)


def test_variables_of_slurm(user: User, bashrc: Path) -> None:
    """What squeue would hide jobs for, and what sbatch would take for more than what the job file says."""
    variables = {
        **{"SQUEUE_PARTITION": "short", "SQUEUE_STATES": "CANCELLED", "SQUEUE_NAMES": "none", "SQUEUE_USERS": "other"},
        **{"SBATCH_PARTITION": "main", "SBATCH_TIMELIMIT": "2", "SBATCH_MEM_PER_CPU": "100", "SBATCH_WAIT": "1"},
        **{"SBATCH_MEM_PER_NODE": "100", "SBATCH_JOB_NAME": "mine", "SBATCH_ARRAY_INX": "7-9", "SBATCH_GRES": "gpu:0"},
        **{"SBATCH_OUTPUT": "/dev/full", "SBATCH_NO_REQUEUE": "1", "SBATCH_ACCOUNT": "flock"},
    }
    bashrc.write_text("".join(f"export {name}={value}\n" for name, value in variables.items()))
    code = """
        from sheepdog.deployment import make_host
        from sheepdog.schedulers.slurm import SlurmScheduler
        C.update(cpus=2, gpus=1, memory="1G", queue="low", time="1h", workers=2)
        names = ("SLURM_CPUS_PER_TASK", "SLURM_GPUS_ON_NODE", "SLURM_MEM_PER_NODE", "SLURM_JOB_PARTITION")
        look = lambda: subprocess.run(["sh", "-c", 'scontrol show job "$SLURM_JOB_ID"'], capture_output=True, text=True)
        def task(i):
            time.sleep(4)
            return [*map(os.environ.get, names), look().stdout]
        sheepdog.map_async(task, [(i,) for i in range(2)], C)
        with Storage(DB) as storage: job, waited = storage.arrays(1)[0].job, storage.progress(1).finished
        status = SlurmScheduler().status(make_host("head"), [job])[job]
        tried = [value for _, value in sheepdog.get_results(1, DB)]
        show([tried, status.pending + len(status.running), waited])
    """
    tried, seen, waited = run(user, code)
    assert [found[:4] for found in tried] == [["2", "1", "1152", "low"]] * 2
    for *_, said in tried:
        assert re.search(r"JobName=sheepdog_|JobName=task_", said)
        assert "TimeLimit=01:00:00" in said
        assert "Requeue=1" in said
    assert (seen, waited) == (2, False)  # the workers are there, and sbatch did not wait for them


def test_what_no_node_can_run(user: User) -> None:
    with pytest.raises(HostFailed, match=r"SchedulerError: .*Requested node configuration is not available"):
        run(user, "sheepdog.map(f, [(1, 1)], {**C, 'gpus': 2})")
    assert not list(user.cluster.home_of("sheep").glob(".sheepdog/*"))


# --- what is refused, or goes wrong over there


@fault(41, "a submission that Slurm refuses", promise="an error with its words; nothing is left")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--partition=none", r"invalid partition specified: none(?s:.*)There are low, main, short"),
        ("--time=x", "Invalid --time specification"),
    ],
)
def test_what_cannot_be_submitted(user: User, option: str, words: str) -> None:
    """Also when sbatch ends with 255, which is ssh's own word for a lost connection."""
    with pytest.raises(HostFailed, match=f"(SchedulerError|UnknownResource): sbatch on head refused.*: .*{words}"):
        run(user, f"sheepdog.map(f, [(1, 1)], {{**C, 'slurm_opts': [{option!r}]}})")
    assert not list(user.cluster.home_of("sheep").glob(".sheepdog/*"))
    assert user.queue() == ""


@fault(
    39,
    "a scheduler that starts a job elsewhere when its working directory is missing",
    promise="the worker refuses; every task's error names the directory",
)
def test_a_missing_directory(user: User) -> None:
    code = """
        C.update(workers=2, resubmissions=0, slurm_opts=["--chdir=/nonexistent"])
        try: sheepdog.map(f, [(1, 1), (2, 2)], C)
        except sheepdog.NotRun as error: show([str(error), errors()])
    """
    reason, errors = run(user, code)
    assert "workers ended with FAILED, exit status 1" in reason
    assert all("cannot start in this directory of node" in error for error in errors), errors
    assert all("workers ended with FAILED, exit status 1" in error for error in errors), errors


@fault((31, "memory"), "a task beyond the memory it may have", promise="MemoryError is its error; others have results")
def test_memory(user: User) -> None:
    code = """
        C.update(memory="200M")
        show([sheepdog.map(lambda n: len(bytearray(n)), [(10,), (500 << 20,)], C), errors()])
    """
    results, [error] = run(user, code)
    assert results == [10, None]
    assert error.startswith("out of memory: its process had")


# --- a stranger on the cluster


@fault(51, "another user who reads files, process lists and squeue", promise="no token and no certificate is found")
def test_a_stranger_finds_nothing(user: User) -> None:
    run(user, "sheepdog.map_async(nap, [(i, 60, '/dev/null') for i in range(8)], C)")
    until(lambda: user.sh("head", "squeue -h -t R").count("\n") == 8, "eight workers run", timeout=60)
    content = json.loads(next((user.cluster.home_of("sheep") / ".sheepdog").glob("*/secret.json")).read_text())
    needles = [content["token"], content["certificate"].splitlines()[3]]
    for host in ("head", "node1", "node2"):
        look = (
            "{ cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; ps -ef e; scontrol show job; squeue -o %all; "
            "find /tmp /var/lib/slurm /home /run -readable -type f -exec cat {} +; } 2>/dev/null | tr -cd '[:print:]'"
        )
        seen = user.sh(host, look, "other")
        assert ("client.pyz" if host != "head" else "sshd") in seen  # it did look
        assert not [needle for needle in needles if needle in seen]


# --- without accounting


@pytest.fixture(scope="module")
def bare_cluster(cluster_possible: None) -> Iterator[Cluster]:
    """A site without accounting."""
    with Cluster(scheduler="slurm", accounting=False) as cluster:
        yield cluster


@fault("late accounting", "a site of Slurm's without accounting", promise="the controller says how the workers ended")
def test_without_accounting(bare_cluster: Cluster, tmp_path: Path) -> None:
    user = User(bare_cluster, tmp_path)
    code = """
        first = sheepdog.map(f, [(1, 1), (1, 2), (2, 2)], C)
        C.update(workers=2, resubmissions=0, slurm_opts=["--chdir=/nonexistent"])
        try: sheepdog.map(f, [(1, 1), (2, 2)], C)
        except sheepdog.NotRun: failed = errors(2)
        C.update(workers=2, slurm_opts=[])
        sheepdog.map_async(note, [(i, 300) for i in range(4)], C)
        until(lambda: states().count("RUNNING") == 2)
        head("scancel", job(3))
        until(lambda: len(errors(3)) == 4)
        show([first, failed, errors(3), arrays(3)])
    """
    try:
        first, errors, deleted, arrays = run(user, code)
    finally:
        user.leave()
    assert first == [2, 3, 4]
    assert all("2 workers ended with FAILED, exit status 1" in error for error in errors), errors
    assert all("was deleted (scancel); `sheepdog.retry(" in error for error in deleted), deleted
    assert arrays == 1
    assert "Slurm accounting storage is disabled" in bare_cluster.on("head", ["sacct"], check=False).stderr
