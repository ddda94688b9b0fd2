"""Jobs, their dispatcher and gridengine's schedulers, on a real Grid Engine and a real Slurm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import HostFailed
from tests.faults import fault
from tests.user import PYTHON, User
from tests.waiting import until


@pytest.fixture(params=["cluster", "slurm_cluster"])
def user(request: pytest.FixtureRequest, cluster_possible: None, tmp_path: Path) -> Iterator[User]:
    """Somebody who uses gridengine, and says the host in a file."""
    user = User(request.getfixturevalue(request.param), tmp_path)
    (tmp_path / "sheepdog.toml").write_text(f'host = "head"\nshell = "{PYTHON}"\npoll_interval = 1\n')
    yield user
    user.leave()


def test_jobs(user: User) -> None:
    """A subclass of __main__, and how jobs end; each is an array job of its own."""
    code = """
        import gridengine, socket
        class Where(gridengine.Job):
            def __init__(self, name):
                gridengine.Job.__init__(self, name=name)
                self.words = [name]
            def run(self):
                return [self.name, *self.words, socket.gethostname()]
        ends = [lambda: 1 / 0, lambda: sys.exit(7), lambda: os.kill(os.getpid(), 11)]
        jobs = [Where("lamb"), *(gridengine.Job(target=end) for end in ends)]
        for job in jobs: job.start()
        for job in jobs: job.join()
        show([jobs[0].result(), [job.exitcode for job in jobs], len(set(job.request_id for job in jobs))])
    """
    [name, word, host], codes, requests = user.run(code)
    assert (name, word, codes, requests) == ("lamb", "lamb", [0, 1, 7, -11], 4)
    assert host in ("node1", "node2")


def test_a_job_is_ended(user: User) -> None:
    code = """
        import gridengine
        mark = "/home/sheep/mark"
        def wait():
            with open(mark, "w"): pass
            time.sleep(1000)
        job = gridengine.Job(target=wait)
        job.start()
        while not os.path.exists(MARK): time.sleep(0.05)
        alive = job.is_alive()
        job.terminate()
        job.join()
        show([alive, job.is_alive(), job.exitcode])
    """
    mark = user.cluster.home_of("sheep") / "mark"
    try:
        assert user.run(code.replace("MARK", repr(str(mark)))) == [True, False, -15]
    finally:
        mark.unlink(missing_ok=True)
    until(lambda: not user.queue(), "nothing is left in the queue", timeout=60)


def test_the_best_available(user: User) -> None:
    """What the host has; a dispatcher's jobs are one array job."""
    code = """
        import gridengine
        scheduler = gridengine.schedulers.best_available()
        dispatcher = gridengine.JobDispatcher(scheduler)
        dispatcher.dispatch(gridengine.Job(target=divmod, args=(i, 3)) for i in range(20))
        results = dispatcher.join(timeout=100)
        with Storage(DB) as storage: arrays = len(storage.arrays(1))
        show([type(scheduler).__name__, results == [divmod(i, 3) for i in range(20)], arrays, dispatcher.address])
    """
    kind, right, arrays, address = user.run(code)
    expected = {"gridengine": "GridEngineScheduler", "slurm": "SlurmScheduler"}
    assert (kind, right, arrays) == (expected[user.cluster.scheduler], True, 1)
    assert address.startswith("https://outside")
    assert f"scheduler: {user.cluster.scheduler} (head has" in user.said


RESOURCES = {
    "gridengine": ("GridEngineScheduler(h_vmem='1G', h_rt=600)", "qstat -j $JOB_ID", ["h_vmem=1G", "h_rt=600"]),
    "slurm": ("SlurmScheduler(mem='1G', time=10)", "scontrol show job $SLURM_JOB_ID", ["mem=1G", "TimeLimit=00:10:00"]),
}


def test_resources(user: User) -> None:
    scheduler, look, words = RESOURCES[user.cluster.scheduler]
    code = f"""
        import gridengine
        from gridengine.schedulers import *
        look = lambda _: subprocess.run({look!r}, shell=True, capture_output=True, text=True).stdout
        show(gridengine.map(look, [1], {scheduler}))
    """
    [said] = user.run(code)
    assert [word for word in words if word not in said] == []


@fault(41, "a resource that the site does not have", promise="an error with those that it has; nothing is left")
def test_unknown_resources(user: User) -> None:
    if user.cluster.scheduler == "slurm":
        scheduler, words = (
            "SlurmScheduler(memry='1G')",
            (
                "UnknownResource: sbatch on head refused the job: .*'--memry=1G'"
                r".*\(did you mean mem\? There are account, .*, wrap\)"
            ),
        )
    else:
        scheduler = "GridEngineScheduler(h_vmen='1G')"
        words = (
            'UnknownResource: qsub on head refused the job: .*unknown resource "h_vmen"'
            r"[^()]*\(did you mean h_vmem\? There are arch, .*gpu, .*h_vmem, .*virtual_used\)"
        )
    code = f"""
        import gridengine
        from gridengine.schedulers import *
        gridengine.map(abs, [1], {scheduler})
    """
    with pytest.raises(HostFailed, match=f"(?s){words}"):
        user.run(code)
    assert not list(user.cluster.home_of("sheep").glob(".sheepdog/*"))


@fault(41, "a host without the wanted scheduler", promise="an error that says so; nothing is left")
def test_the_other_scheduler(user: User) -> None:
    other, program = {"gridengine": ("SlurmScheduler", "sbatch"), "slurm": ("GridEngineScheduler", "qsub")}[
        user.cluster.scheduler
    ]
    code = f"import gridengine; gridengine.JobDispatcher(gridengine.schedulers.{other}).dispatch([gridengine.Job()])"
    with pytest.raises(HostFailed, match=f"SchedulerNotFound: there is no {program} on head"):
        user.run(code)
