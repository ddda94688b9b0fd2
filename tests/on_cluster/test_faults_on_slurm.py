"""What goes wrong on a cluster, made to go wrong on a real Slurm."""

import re
from collections.abc import Iterator

import pytest

from tests.faults import fault
from tests.on_cluster.programs import log_of, ran_so_far, run, shown, start
from tests.user import User
from tests.waiting import until

GO = """
        def go(i):  # runs until it may end, and leaves a line for each run
            import os, time
            with open(os.path.expanduser("~/ran"), "a") as file: file.write("one\\n")
            end = time.time() + 150
            while time.time() < end and not os.path.exists(os.path.expanduser("~/go")): time.sleep(0.1)
            return i
"""


@pytest.fixture
def user(slurm_user: User) -> User:
    """Somebody who uses Slurm."""
    return slurm_user


@fault("memory", "a task that needs more memory than its worker has, with on_oom", promise="the next worker has more")
def test_more_memory_for_the_next_attempt(user: User) -> None:
    code = """
        C.update(memory="200M", on_oom="4x")
        limit = lambda n: (len(bytearray(n)), os.environ["SLURM_MEM_PER_NODE"])
        show([sheepdog.map(limit, [(10,), (500 << 20,)], C), [kind for _, _, kind, _ in attempts()]])
    """
    assert run(user, code) == [[[10, "328"], [500 << 20, "928"]], ["MEMORY"]]


# --- the end of a worker's time


@fault(35, "the partition's time limit, with SIGTERM before", promise="the worker hands back what it has; others go on")
def test_the_partition_s_time_limit(user: User) -> None:
    """Nobody told the worker of the limit."""
    code = (
        GO
        + """
        C.update(workers=2, slurm_opts=["--partition=short"])
        sheepdog.map_async(go, [(i,) for i in range(4)], C)
        until(lambda: arrays() == 2, 120)
        head("touch", "go")
        show([results(), errors(), attempts()])
    """
    )
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([0, 1, 2, 3], [])
    assert {kind for _, _, kind, _ in attempts} == {"INTERRUPTED"}, attempts
    assert all("SIGTERM" in text for _, _, _, text in attempts)
    assert "is leaving: SIGTERM" in log_of(user)


@fault(
    "preemption", "Slurm preempts workers for other jobs, with a grace time", promise="tasks run again when they may"
)
def test_preemption(user: User) -> None:
    code = (
        GO
        + """
        C.update(workers=2, resubmissions=20, slurm_opts=["--partition=low"])
        sheepdog.map_async(go, [(i,) for i in range(4)], C)
        until(lambda: len(head("cat", "ran").splitlines()) == 2)
        head("sbatch", "--parsable", "--nodes=2", "--exclusive", "--mem=0", "--wrap=true")
        until(lambda: len(attempts()) == 2)
        head("touch", "go")
        until(lambda: states().count("PENDING"))
        with Storage(DB) as storage: first = storage.arrays(1)[0].job
        head("scontrol", "update", "JobId=" + first, "StartTime=now")  # Slurm lets them wait for two minutes
        show([results(), errors(), attempts()])
    """
    )
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([0, 1, 2, 3], [])
    assert {kind for _, _, kind, _ in attempts} == {"INTERRUPTED"}, attempts
    assert all("SIGTERM" in text for _, _, _, text in attempts)


# --- what people do to the array job


@fault((36, "qdel one"), "scancel of one element", promise="its task runs elsewhere, once more")
def test_one_element_is_cancelled(user: User) -> None:
    code = """
        C.update(workers=3)
        sheepdog.map_async(note, [(i, 6) for i in range(6)], C)
        until(lambda: states().count("RUNNING") == 3)
        until(lambda: len(head("cat", "ran").splitlines()) == 3)
        head("scancel", job() + "_2")
        show([results(), errors(), attempts()])
    """
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([i * i for i in range(6)], [])
    assert len(ran_so_far(user)) <= 6 + len(attempts)


@fault((36, "qdel all"), "scancel of the whole array job", promise="it does not come back; retry runs the rest")
def test_all_is_cancelled(user: User) -> None:
    code = """
        C.update(workers=12)
        sheepdog.map_async(note, [(i, 300) for i in range(24)], C)
        until(lambda: len(head("cat", "ran").splitlines()) == 8)
        head("scancel", job())
        show([results(), errors(), job(), arrays()])
    """
    results, errors, job, arrays = run(user, code)
    assert results == [None] * 24
    assert all(error.startswith(f"the array job {job} was deleted (scancel); `sheepdog.retry(") for error in errors)
    assert arrays == 1


@fault("hold", "the array job is on hold", promise="the user is told; released, it runs")
def test_a_hold(user: User) -> None:
    code = """
        C.update(slurm_opts=["--hold"])
        request_id = sheepdog.map_async(f, [(1, 2)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(note)
        said = note()
        head("scontrol", "release", job())
        show([said, results()])
    """
    said, results = run(user, code)
    assert "on hold" in said
    assert results == [3]


@fault(44, "workers that no host can ever run", promise="Slurm's reason is told, and what it means")
def test_pending_for_ever(user: User) -> None:
    code = """
        C.update(workers=2, slurm_opts=["--cpus-per-task=64"])
        request_id = sheepdog.map_async(f, [(1, 2), (3, 4)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(note)
        said = note()
        sheepdog.cancel(request_id, DB)
        until(lambda: not states())
        show([said, errors()])
    """
    said, errors = run(user, code)
    assert re.search(r"2 workers wait in the queue of head .*PartitionConfig \(it asks for more than a node", said)
    assert [error.split("\n")[0] for error in errors] == ["cancelled by its user"] * 2


@fault((37, "-r y"), "Slurm starts a worker again (--requeue)", promise="its old tasks are released at once")
def test_a_requeued_worker(user: User) -> None:
    code = """
        C.update(workers=1, lease=600)
        sheepdog.map_async(note, [(i, 5) for i in range(3)], C)
        until(lambda: head("cat", "ran"))
        head("scontrol", "requeue", job() + "_1")
        until(lambda: "PENDING" in states())
        head("scontrol", "update", "jobid=" + job() + "_1", "starttime=now")  # else it waits for two minutes
        show([results(), errors(), attempts()])
    """
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([0, 1, 4], [])
    assert len(ran_so_far(user)) <= 3 + len(attempts)


# --- limits of the site


@fault((43, "max_aj_tasks"), "an array larger than MaxArraySize", promise="a smaller one does all the tasks")
def test_max_array_size(user: User) -> None:
    code = """
        C.update(workers=5000)
        request_id = sheepdog.map_async(f, [(i, i) for i in range(5000)], C)
        with Storage(DB) as storage: workers = storage.arrays(request_id)[0].workers
        show([results() == [2 * i for i in range(5000)], workers])
    """
    assert run(user, code) == [True, 1000]
    until(lambda: not user.queue(), "the elements that are not needed are deleted", timeout=60)


@pytest.fixture
def limit(user: User) -> Iterator[None]:
    """Let sheep submit four jobs at most."""
    change = "sacctmgr -i modify user sheep set maxsubmitjobs="
    user.sh("head", f"{change}4", user="root")
    yield
    user.sh("head", f"{change}-1", user="root")


@fault(
    ("max_u_jobs", 41), "the user may have few jobs", promise="so many workers are submitted; others when there is room"
)
@pytest.mark.usefixtures("limit")
def test_max_submit_jobs(user: User) -> None:
    code = """
        C.update(workers=10)
        first = sheepdog.map_async(note, [(i, 1) for i in range(10)], C)
        with Storage(DB) as storage: workers = storage.arrays(first)[0].workers
        C.update(workers=1)
        second = sheepdog.map_async(f, [(1, 2)], C)
        show([results(first), workers, results(second)])
    """
    assert run(user, code) == [[i * i for i in range(10)], 2, [3]]
    assert "AssocMaxSubmitJobLimit" in user.said


# --- parts of the cluster that fail


@fault((7, "node down"), "a node of Slurm's loses its power", promise="its tasks run on another one")
def test_a_node_is_lost(user: User) -> None:
    code = """
        C.update(workers=8, lease=8)
        sheepdog.map_async(note, [(i, 4) for i in range(24)], C)
        show([results(), errors(), attempts()])
    """
    client = start(user, code)
    until(lambda: {node for _, _, node in ran_so_far(user)} == {"node1", "node2"}, "both nodes work", timeout=60)
    user.cluster.kill("node2")
    try:
        results, errors, attempts = shown(client)
    finally:
        user.cluster.boot("node2")
    assert (results, errors) == ([i * i for i in range(24)], [])
    assert {kind for _, _, kind, _ in attempts} == {"LOST"}
    assert len(ran_so_far(user)) <= 24 + len(attempts)
    until(lambda: "node2" in user.sh("head", "sinfo -h -N -t idle -o %N"), "the node is back", timeout=60)


@fault((42, "qmaster down"), "slurmctld is down for a while", promise="running work is not affected; it is no end")
def test_the_controller_is_down(user: User) -> None:
    code = """
        C.update(workers=4)
        sheepdog.map_async(note, [(i, 1) for i in range(60)], C)
        show([results(), errors(), attempts(), arrays()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 4, "tasks run", timeout=60)
    user.sh("head", "kill $(pidof slurmctld)", user="root")  # -9 would lose numbers of jobs, and give them again
    try:
        until(lambda: "Unable to contact slurm controller" in log_of(user), "the server has noticed", timeout=60)
    finally:
        user.cluster.on("head", ["/usr/sbin/slurmctld"], user="slurm", cwd="/")
    assert shown(client) == [[i * i for i in range(60)], [], [], 1]
