"""The names of the gridengine library: what its users expect of each, on this machine."""

import builtins
import functools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import gridengine
import sheepdog
from gridengine import Job, JobDispatcher
from gridengine.schedulers import (
    GridEngineScheduler,
    ProcessScheduler,
    Scheduler,
    SlurmScheduler,
    best_available,
)
from sheepdog.config import sbatch
from sheepdog.errors import SchedulerNotFound
from tests.faults import fault
from tests.local import DB
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SGE_ROOT", raising=False)
    monkeypatch.delenv("SLURM_CONF", raising=False)


def square(x: int) -> int:
    return x * x


# --- map


def test_the_example_of_its_readme(place: Path) -> None:
    """To the letter; and nothing is said."""
    text = '''
import gridengine

def f(x):
  """compute the square of a number"""
  return x*x

scheduler = gridengine.schedulers.best_available()

x = [1, 2, 3, 4, 5]
y = gridengine.map(f, x, scheduler=scheduler)
'''
    (place / "example.py").write_text(text + "print(y)\n")
    done = subprocess.run([sys.executable, "-W", "error", "example.py"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[1, 4, 9, 16, 25]\n", "")


@pytest.mark.parametrize(
    "scheduler", [best_available, ProcessScheduler, ProcessScheduler(), ProcessScheduler(max_threads=1), Scheduler]
)
def test_map(scheduler: object) -> None:
    assert gridengine.map(square, range(5), scheduler=scheduler) == [0, 1, 4, 9, 16]


def test_map_is_like_the_built_in_one() -> None:
    """Each item is one argument, whatever it is; the items may come from a generator."""
    items: list[Any] = [(1, 2), [3], {"a": 1}, None, "text"]
    assert gridengine.map(repr, (item for item in items)) == [*builtins.map(repr, items)]
    assert gridengine.map(square, []) == []
    assert gridengine.map(f=square, args=(2,), scheduler=best_available, reraise=False) == [4]


def test_map_raises_the_first_error() -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        gridengine.map(lambda x: 1 / x, [1, 0, 2, 0])
    [note] = caught.value.__notes__
    database = os.path.abspath(DB)
    assert note == (
        "(it is the error of task 2 of request 1; the results of the others are in "
        f"sheepdog.get_results(1, {database!r}))"
    )
    assert [value for _, value in sheepdog.get_results(1, DB)] == [1.0, None, 0.5, None]


def test_map_leaves_exceptions_in_the_list() -> None:
    one, error, half = gridengine.map(lambda x: 1 / x, [1, 0, 2], reraise=False)
    assert (one, half) == (1.0, 0.5)
    assert isinstance(error, ZeroDivisionError)


def test_an_exception_may_be_a_result() -> None:
    [result] = gridengine.map(lambda x: ValueError(x), [1])
    assert (type(result), result.args) == (ValueError, (1,))


def test_a_function_travels_once_for_map() -> None:
    ballast = os.urandom(1 << 16)
    assert gridengine.map(lambda x: x + len(ballast), range(300)) == [x + (1 << 16) for x in range(300)]
    with sheepdog.Storage(DB) as storage:
        assert storage.db.execute("SELECT max(length(args)) < 100 FROM task").fetchone() == (1,)


def test_map_says_how_to_go_on_when_it_is_interrupted(place: Path) -> None:
    code = "import gridengine, time; gridengine.map(time.sleep, [1000])"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    def runs() -> bool:
        if not os.path.exists(DB):
            return False
        with sheepdog.Storage(DB) as storage:
            return bool(storage.requests(1) and storage.leased(1))  # type: ignore[arg-type]

    until(runs, "its task runs")
    process.send_signal(2)
    _, said = process.communicate(timeout=60)
    assert f"request 1 goes on; fetch it with sheepdog.get_results(1, {os.path.abspath(DB)!r})" in said
    assert sheepdog.cancel(1, DB) == 1


# --- jobs


def test_arguments_of_a_job_in_both_orders() -> None:
    """gridengine's begins with the target; a process's with its group, which is None."""
    for job in (
        Job(square, "lamb", (3,), {}),
        Job(None, square, "lamb", (3,)),
        Job(target=square, name="lamb", args=[3], kwargs={}),
        Job(square, args=(3,), name="lamb"),
    ):
        assert (job.name, str(job)) == ("lamb", "square(3)")
    assert Job().run() is None
    with pytest.raises(TypeError, match="target is 5, a int; it must be something to call"):
        Job(5)


def test_a_job_by_itself() -> None:
    job = Job(target=square, args=(3,))
    job.start()
    assert job.result() == 9
    assert isinstance(job, sheepdog.Job)


# --- the dispatcher


def test_dispatcher() -> None:
    class Own(Job):
        def run(self) -> str:
            return self.name

    dispatcher = JobDispatcher(ProcessScheduler)
    assert dispatcher.finished is False
    assert [dispatcher.start_time, dispatcher.end_time, dispatcher.elapsed_time, dispatcher.address] == [None] * 4
    before = time.time()
    jobs = [Job(target=square, args=(3,)), Own(name="lamb"), Job(target=divmod, args=(1, 0))]
    dispatcher.dispatch(jobs)
    assert dispatcher.address is not None
    assert dispatcher.address.startswith("https://127.0.0.1:")
    nine, lamb, error = dispatcher.join()
    assert (nine, lamb, dispatcher.finished) == (9, "lamb", True)
    assert isinstance(error, ZeroDivisionError)
    assert dispatcher.start_time is not None
    assert dispatcher.end_time is not None
    assert before <= dispatcher.start_time <= dispatcher.end_time <= time.time()
    assert dispatcher.elapsed_time == dispatcher.end_time - dispatcher.start_time
    assert [job.exitcode for job in jobs] == [0, 0, 1]
    assert dispatcher.join(timeout=0)[:2] == [9, "lamb"]  # again
    with pytest.raises(ZeroDivisionError, match="by zero"):
        dispatcher.join(reraise=True)
    assert [job.result() for job in jobs[:2]] == [9, "lamb"]
    assert not any(job.is_alive() for job in jobs)
    dispatcher.dispatch([Job(target=square, args=(4,))])
    assert dispatcher.join(60) == [16]


@fault("database grows", "a dispatcher has given its results", promise="the store lets go of them; errors stay")
def test_what_a_dispatcher_has_given_goes() -> None:
    dispatcher = JobDispatcher(ProcessScheduler)
    for _ in range(2):
        dispatcher.dispatch([Job(target=bytes, args=(100_000,)), Job(target=divmod, args=(1, 0))])
        with pytest.raises(ZeroDivisionError):
            dispatcher.join(reraise=True)  # so the other has not been given
        assert dispatcher.join()[0] == bytes(100_000)
    with sheepdog.Storage(DB) as storage:
        assert [storage.delivered(request) for request in (1, 2)] == [[(1, 1)]] * 2
    with pytest.raises(RuntimeError, match="have been given to who has joined its dispatcher"):
        dispatcher.scheduler.results()
    [(_, error)] = sheepdog.get_errors(1, DB)
    assert error.startswith("ZeroDivisionError")
    kept = JobDispatcher(ProcessScheduler(config={"keep": "1d"}))
    kept.dispatch([Job(target=square, args=(3,))])
    assert kept.join() == kept.scheduler.results() == [9]


def test_a_dispatcher_that_runs(place: Path) -> None:
    dispatcher = JobDispatcher()
    dispatcher.dispatch([Job(target=lambda: until((place / "go").exists, "go")), Job(target=square, args=(2,))])
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match=rf"[12] of 2 jobs have not ended after {timeout} seconds"):
            dispatcher.join(timeout)
    assert dispatcher.finished is False
    assert dispatcher.end_time is None
    first = dispatcher.elapsed_time
    assert first is not None
    until(lambda: (dispatcher.elapsed_time or 0) > first, "time goes on")
    with pytest.raises(RuntimeError, match="the jobs that were dispatched last have not ended"):
        dispatcher.dispatch([Job()])
    (place / "go").touch()
    assert dispatcher.join(60) == [None, 4]


def test_join_before_dispatch() -> None:
    with pytest.raises(RuntimeError, match="nothing has been dispatched"):
        JobDispatcher(ProcessScheduler).join()


def test_a_dispatcher_without_jobs() -> None:
    dispatcher = JobDispatcher(ProcessScheduler)
    dispatcher.dispatch([])
    assert dispatcher.join() == []
    assert dispatcher.finished is True
    assert dispatcher.address is None


def test_a_scheduler_is_shared(place: Path) -> None:
    """By two dispatchers and by map: each has its own results."""
    scheduler = ProcessScheduler(max_threads=1)
    first, second = JobDispatcher(scheduler), JobDispatcher(scheduler)
    first.dispatch([Job(target=lambda: until((place / "go").exists, "go")), Job(target=square, args=(2,))])
    second.dispatch([Job(target=square, args=(3,))])
    assert gridengine.map(square, [4, 5], scheduler=scheduler) == [16, 25]
    assert second.join(60) == [9]
    assert (first.finished, second.finished) == (False, True)
    (place / "go").touch()
    assert first.join(60) == [None, 4]
    assert scheduler.results() == [16, 25]  # of the last jobs


def test_a_scheduler_is_shared_by_threads() -> None:
    scheduler = ProcessScheduler(max_threads=1)
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda n: gridengine.map(square, range(n), scheduler=scheduler), range(2, 10))]
    assert found == [[x * x for x in range(n)] for n in range(2, 10)]


def test_the_results_of_jobs_that_run(place: Path) -> None:
    scheduler = ProcessScheduler(max_threads=1)
    scheduler.schedule([Job(target=square, args=(2,)), Job(target=lambda: until((place / "go").exists, "go"))])
    with pytest.raises(RuntimeError, match=r"request 1 has not ended \(.*\): join it first"):
        scheduler.results()
    (place / "go").touch()
    scheduler.join()
    assert scheduler.results() == [4, None]


def test_killall() -> None:
    """It ends all that the scheduler has started."""
    scheduler = ProcessScheduler(max_threads=2)
    scheduler.killall()
    for use in (scheduler.join, scheduler.results):
        with pytest.raises(RuntimeError, match="nothing has been scheduled"):
            use()
    done = Job(target=square, args=(3,))
    jobs = [Job(target=time.sleep, args=(1000,)) for _ in range(4)]
    JobDispatcher(scheduler).dispatch([done])
    done.join()
    JobDispatcher(scheduler).dispatch(jobs[:2])
    scheduler.schedule(jobs[2:])
    scheduler.killall()
    scheduler.join()
    assert [job.exitcode for job in (done, *jobs)] == [0] + [-15] * 4


# --- schedulers


def program(place: Path, name: str) -> None:
    (place / "bin").mkdir(exist_ok=True)
    (place / "bin" / name).write_text("#!/bin/sh\n")
    (place / "bin" / name).chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "environ", "kind", "why"),
    [
        (
            ["qsub", "sbatch"],
            {"SGE_ROOT": "/sge", "SLURM_CONF": DB},
            GridEngineScheduler,
            "qsub is on PATH and SGE_ROOT",
        ),
        (
            ["sbatch"],
            {"SGE_ROOT": "/sge", "SLURM_CONF": "/etc/passwd"},
            SlurmScheduler,
            "sbatch is on PATH with /etc/p",
        ),
        (["qsub"], {}, ProcessScheduler, "no host is given, SGE_ROOT is not set, and sbatch is not on PATH"),
        ([], {}, ProcessScheduler, "no host is given, qsub is not on PATH, and sbatch is not on PATH"),
        (["qsub"], {"SGE_ROOT": "/sge", "SHEEPDOG_SCHEDULER": "slurm"}, SlurmScheduler, "the configuration says so"),
    ],
)
def test_best_available(
    place: Path,
    programs: list[str],
    environ: dict[str, str],
    kind: type,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says what it takes, and why."""
    (place / "bin").mkdir()
    for name in programs:
        program(place, name)
    with caplog.at_level(logging.INFO, "sheepdog"), monkeypatch.context() as patch:
        for key, value in {**environ, "PATH": str(place / "bin")}.items():
            patch.setenv(key, value)
        scheduler = best_available()
    assert type(scheduler) is kind
    assert caplog.messages == [f"scheduler: {scheduler.config.scheduler} ({caplog.messages[0].partition('(')[2]}"]
    assert why in caplog.messages[0]


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"scheduler": "drmaa"}, Scheduler),
        ({"scheduler": "drmaa", "host": "fear"}, Scheduler),
        ({"scheduler": "local", "host": "fear"}, Scheduler),
        ({"scheduler": "slurm", "host": "fear"}, SlurmScheduler),
    ],
)
def test_the_best_available_is_what_the_configuration_says(config: dict[str, Any], kind: type) -> None:
    """Also where gridengine has no name for it."""
    scheduler = best_available(config)
    assert type(scheduler) is kind
    assert (scheduler.config.scheduler, scheduler.config.host) == (config["scheduler"], config.get("host"))


def test_nothing_optional_is_needed() -> None:
    code = """
        import sys
        class Nothing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("drmaa", "zmq", "numpy", "httptools"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Nothing())
        import gridengine
        print(type(gridengine.schedulers.best_available()).__name__)
    """
    done = subprocess.run([sys.executable, "-c", "if True:" + code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("ProcessScheduler\n", "")


def test_process_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, whatever the configuration says of a host."""
    monkeypatch.setenv("SHEEPDOG_HOST", "fear")
    monkeypatch.setenv("SHEEPDOG_WORKERS", "3")
    config = ProcessScheduler().config
    assert (config.scheduler, config.host, config.workers) == ("local", None, 3)
    assert ProcessScheduler(5).config.workers == ProcessScheduler(max_threads=5).config.workers == 5
    with pytest.raises(ValueError, match="workers is 0; it must be a whole number from 1"):
        ProcessScheduler(max_threads=0)


def test_no_more_processes_than_wanted(place: Path) -> None:
    def f(x: int) -> int:
        (place / f"runs{x}").touch()
        time.sleep(0.01)
        found = len(list(place.glob("runs*")))
        (place / f"runs{x}").unlink()
        return found

    assert max(gridengine.map(f, range(20), ProcessScheduler(max_threads=1))) == 1


def test_resources_of_grid_engine() -> None:
    scheduler = GridEngineScheduler(h_vmem="2G", h_rt=3600, gpu=True, config={"ge_opts": ["-p -10"], "queue": "long.q"})
    script = sheepdog.job_script(scheduler.config)
    lines = ["-p -10", "-l h_vmem=2G", "-l h_rt=3600", "-l gpu=true", "-q long.q"]
    assert [line for line in script.splitlines() if line.removeprefix("#$ ") in lines] == [
        f"#$ {line}" for line in lines
    ]
    assert (scheduler.config.scheduler, scheduler.config.host) == ("gridengine", None)


def test_options_of_slurm() -> None:
    scheduler = SlurmScheduler(partition="low", cpus_per_task=2, config={"slurm_opts": ["--nice"], "host": "fear"})
    script = sheepdog.job_script(scheduler.config)
    lines = ["#SBATCH --nice", "#SBATCH --partition=low", "#SBATCH --cpus-per-task=2"]
    assert [line for line in script.splitlines() if line in lines] == lines
    assert (scheduler.config.scheduler, scheduler.config.host) == ("slurm", "fear")


def test_all_kinds_of_options_of_slurm() -> None:
    """Those without a value, those of one letter, and lists."""
    config = SlurmScheduler(exclusive=True, p="low", nodelist="node1,node2", mem_per_cpu=500, H=True).config
    assert config.slurm_opts == ("--exclusive", "-plow", "--nodelist=node1,node2", "--mem-per-cpu=500", "-H")
    assert (sbatch.given(config.slurm_opts, "-p"), sbatch.given(config.slurm_opts, "-H")) == ("low", "")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GridEngineScheduler(h_vmem="2G h_rt=5"), "the resource h_vmem is '2G h_rt=5'; it must be a number"),
        (lambda: GridEngineScheduler(h_vmem="2G,h_rt=5"), "the resource h_vmem is '2G,h_rt=5'"),
        (lambda: GridEngineScheduler(h_vmem=""), "the resource h_vmem is ''"),
        (lambda: GridEngineScheduler(h_vmem=None), "the resource h_vmem is None; give a value, or leave it out"),
        (lambda: SlurmScheduler(mem="2G\n#SBATCH"), "the resource mem is '2G"),
        (lambda: SlurmScheduler(mem=None), "the resource mem is None; give a value, or leave it out"),
        (lambda: SlurmScheduler(exclusive=False), "the option exclusive is False; leave it out"),
        (lambda: SlurmScheduler(array="1-3"), "must not hold --array: use the key workers"),
        (lambda: ProcessScheduler(config={"hots": "fear"}), "did you mean host"),
    ],
)
def test_wrong_options(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.fixture
def no_programs(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with the usual commands, and no scheduler's."""
    (place / "bin").mkdir()
    tools = (
        "sh",
        "tar",
        "mkdir",
        "chmod",
        "cat",
        "mv",
        "rm",
        "rmdir",
        "sed",
        "head",
        "tail",
        "sleep",
        "id",
        "ls",
        "grep",
    )
    for tool in tools:
        (place / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(place / "bin"))
        yield


@pytest.mark.usefixtures("no_programs")
@pytest.mark.parametrize(("scheduler", "name"), [(GridEngineScheduler, "qsub"), (SlurmScheduler, "sbatch")])
def test_a_scheduler_that_is_not_there(scheduler: type[Scheduler], name: str, place: Path) -> None:
    """As a program that is not there: nothing is left, and the next one may do."""
    job = Job(target=square, args=(3,))
    dispatcher = JobDispatcher(scheduler)
    for kind in (FileNotFoundError, SchedulerNotFound):
        with pytest.raises(kind, match=f"there is no {name} on this machine"):
            dispatcher.dispatch([job])
    with pytest.raises(RuntimeError, match="nothing has been dispatched"):
        dispatcher.join()
    dispatcher = JobDispatcher(ProcessScheduler)
    dispatcher.dispatch([job])
    assert dispatcher.join() == [9]


@pytest.mark.parametrize("scheduler", [5, "gridengine", None, Job, dict])
def test_what_is_no_scheduler(scheduler: object) -> None:
    for use in (lambda: gridengine.map(square, [1], scheduler=scheduler), lambda: JobDispatcher(scheduler)):
        with pytest.raises(TypeError, match=r"scheduler is .*; it must be a scheduler, such as gridengine\.schedulers"):
            use()


def test_what_map_cannot_call() -> None:
    with pytest.raises(TypeError, match="f is 5, a int"):
        gridengine.map(5, [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        gridengine.map(square, 5)  # type: ignore[arg-type]


# --- names


def test_timeout_error_is_the_built_in_one() -> None:
    assert gridengine.schedulers.TimeoutError is TimeoutError


def test_what_lies_at_the_top() -> None:
    for name in ("ProcessScheduler", "GridEngineScheduler", "SlurmScheduler", "TimeoutError"):
        assert getattr(gridengine, name) is getattr(gridengine.schedulers, name)


class Fit(Job):
    """As gridengine's readme says: it calls no super().__init__()."""

    def __init__(self, data: list[int]) -> None:
        self.data = data

    def run(self) -> int:
        return sum(self.data)


class Numbered(Job):
    def __init__(self) -> None:
        super().__init__()
        self.id = 77


def test_a_job_as_it_was() -> None:
    jobs = [Fit([1, 2]), Fit([3, 4])]
    assert [job.id for job in jobs] == [None, None]
    assert (jobs[0].name, jobs[0].mutable, str(jobs[0])) == ("Fit", False, "Fit()")
    dispatcher = gridengine.JobDispatcher(gridengine.ProcessScheduler)
    dispatcher.dispatch(jobs)
    assert dispatcher.join() == [3, 7]
    assert [job.id for job in jobs] == [1, 2]
    assert Job(mutable=True, target=abs).mutable
    assert Numbered().id == 77
    assert not Job(abs).mutable


def test_a_scheduler_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridengine.GridEngineScheduler(h_vmem="2G").resources == {"h_vmem": "2G"}
    scheduler = gridengine.ProcessScheduler(max_threads=1)
    assert scheduler.resources == {}
    scheduler.schedule([Job(target=time.sleep, args=(300,))])
    scheduler.killall(verbose=True)
    assert capsys.readouterr().err == "sheepdog: 1 job ended by killall\n"


def test_partial() -> None:
    def power(base: int, *, exponent: int) -> int:
        """Return a power."""
        return int(base**exponent)

    made = gridengine.functional.partial(power, exponent=3)
    assert isinstance(made, functools.partial)
    assert (made.__name__, made.__doc__) == ("power_3", "Return a power.")  # type: ignore[attr-defined]
    assert gridengine.map(made, [1, 2, 3]) == [1, 8, 27]
    assert str(Job(target=made, args=(2,))) == "power_3(2)"
    many = gridengine.functional.partial(power, 3.14159, "2.5", len, exponent=[1])
    assert many.__name__ == "power_3.141_2.5_len_list"  # type: ignore[attr-defined]
    assert gridengine.functional.partial(int, "11", base=2)() == 3
    assert gridengine.functional.map is gridengine.map
