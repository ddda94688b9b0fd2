"""Jobs: what they have beyond multiprocessing.Process, whose API test_process_api.py looks at."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

import sheepdog
from sheepdog import Job, dispatch_jobs
from sheepdog.client import run_any
from sheepdog.errors import JobError, RequestNotFound, SerialisationError, StorageError, TaskFailed
from sheepdog.storage import Storage
from sheepdog.values.model import RequestState
from sheepdog.values.serialisation import Arguments
from tests.local import DB
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")

BARE = {"shell": f"{sys.executable} -I -S"}  # a Python that has no Sheepdog


def started(job: Job) -> Job:
    job.start()
    return job


# --- results


def test_result() -> None:
    job = started(Job(target=divmod, args=(17,), kwargs={}, name="division"))
    with pytest.raises(TypeError, match="divmod expected 2 arguments, got 1"):
        job.result()
    assert job.exitcode == 1
    assert started(Job(target=divmod, args=(17, 5))).result() == (3, 2)
    assert started(Job(target=lambda *args, **kwargs: (args, kwargs), args=(1,), kwargs={"x": 2})).result(60) == (
        (1,),
        {"x": 2},
    )


def test_result_raises_what_the_target_raised() -> None:
    def f(x: int) -> float:
        return 1 / x

    job = started(Job(target=f, args=(0,)))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
            job.result()
        assert isinstance(caught.value.__cause__, TaskFailed)
        told = str(caught.value.__cause__)
        assert "    return 1 / x\n" in told
        assert "_sheepdog_worker" not in told


@pytest.mark.parametrize("end", [lambda: sys.exit(3), lambda: sys.exit("it is raining"), lambda: os._exit(3)])
def test_result_ends_no_program(end: Callable[[], object]) -> None:
    with pytest.raises(TaskFailed, match=r"SystemExit: [13]\n|exited with status 3"):
        started(Job(target=end)).result()


def test_what_an_exit_says_is_kept() -> None:
    job = started(Job(target=lambda: sys.exit("it is raining")))
    job.join()
    [(_, error)] = sheepdog.get_errors(1, DB)
    assert error.startswith("SystemExit: 1\n")
    assert error.endswith("The end of its output:\nit is raining")


def test_result_with_a_timeout(place: Path) -> None:
    job = started(Job(target=lambda: until((place / "go").exists, "go")))
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match=r"<Job name='Job-\d+' ident=\d+ started> has not ended after 0"):
            job.result(timeout)
    (place / "go").touch()
    assert job.result() is None


def test_the_result_of_a_job_that_was_ended() -> None:
    job = started(Job(target=time.sleep, args=(1000,)))
    job.terminate()
    with pytest.raises(TaskFailed, match="cancelled by its user"):
        job.result()


def test_a_result_is_fetched_from_anywhere() -> None:
    """By its request; or with the job, which may be taken elsewhere."""
    job = started(Job(target=divmod, args=(17, 5)))
    code = "import pickle, sys; job = pickle.load(sys.stdin.buffer); print(job.result(), repr(job))"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(job), capture_output=True)
    assert done.stdout.decode() == f"(3, 2) <Job name={job.name!r} ident={job.ident} stopped exitcode=0>\n"
    assert job.request_id == 1
    assert sheepdog.get_results(1, DB) == [((17, 5), (3, 2))]


def test_positional_and_keyword_arguments_are_shown() -> None:
    job = started(Job(target=lambda a, b: a + b, args=(1,), kwargs={"b": 2}))
    assert job.result() == 3
    assert sheepdog.get_results(1, DB) == [(Arguments((1,), {"b": 2}), 3)]


def test_a_job_is_joined_in_any_thread() -> None:
    job = started(Job(target=divmod, args=(17, 5)))
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(job.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(3, 2)] * 4


def test_a_job_is_started_once_by_many_threads() -> None:
    job = Job(target=divmod, args=(17, 5))
    together = threading.Barrier(4)
    errors: list[Exception] = []

    def start() -> None:
        together.wait()
        try:
            job.start()
        except JobError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(error).endswith("a job can be started once") for error in errors] == [True] * 3
    assert job.result() == (3, 2)
    with Storage(DB) as storage:
        assert storage.requests(*RequestState) == [1]


def wait_for_death(pid: int) -> None:
    until(lambda: not Path(f"/proc/{pid}").exists(), "it is dead")


def test_a_server_that_dies_is_started_again(place: Path) -> None:
    """By join, and by whoever asks whether it is alive."""
    for wait in (lambda job: job.join(), lambda job: until(lambda: not job.is_alive(), "it has ended")):
        (place / "go").unlink(missing_ok=True)
        job = started(Job(target=lambda: until((place / "go").exists, "go")))
        pid = sheepdog.Server(dbfile=DB).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for_death(pid)
        (place / "go").touch()
        wait(job)
        assert job.exitcode == 0


def test_the_exit_code_of_a_subclass_of_systemexit() -> None:
    class Quit(SystemExit):
        pass

    def quits() -> None:
        raise Quit(7)

    job = started(Job(target=quits))
    job.join()
    assert job.exitcode == 7
    [(_, error)] = sheepdog.get_errors(1, DB)
    assert "    raise Quit(7)\n" in error
    assert "_sheepdog_worker" not in error


# --- subclasses


SCRIPT = """
import gridengine
from sheepdog import Job

class Square(Job):
    def __init__(self, x):
        super().__init__(name=f"square of {x}")
        self.x = x

    def run(self):
        return self.power(2), self.name

    def power(self, n):
        return self.x ** n

class Cube(gridengine.Job):
    "It names the module; and what it returns is itself."
    def __init__(self, x):
        gridengine.Job.__init__(self)
        self.x = x

    def run(self):
        self.x = self.x ** 3
        return self

class Named(Square):
    def run(self):
        return [super().run(), isinstance(self, Job), isinstance(self, Square)]

if __name__ == "__main__":
    for job in (Square(3), Cube(3), Named(4)):
        job._config = {"shell": SHELL}
        job.start()
        result = job.result()
        print(f"{result.x}, {type(result) is Cube}" if isinstance(job, Cube) else result)
"""


class Large:
    """An argument whose end can be seen."""


def test_a_job_lets_its_target_and_arguments_go_once_it_has_been_started() -> None:
    large = Large()
    seen = weakref.ref(large)
    job = Job(target=lambda each: type(each).__name__, args=(large,), kwargs={})
    del large
    said = str(job)
    job.start()
    gc.collect()
    assert seen() is None
    assert str(job) == said
    assert "Large" in said
    assert (job.result(), job.exitcode) == ("Large", 0)
    again = pickle.loads(pickle.dumps(job))
    assert (str(again), again.result()) == (said, "Large")


def test_subclasses_of_main(place: Path) -> None:
    (place / "script.py").write_text(SCRIPT.replace("SHELL", repr(BARE["shell"])))
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "(9, 'square of 3')\n27, True\n[(16, 'square of 4'), True, True]\n"


def test_a_function_that_names_sheepdog_but_does_not_use_it() -> None:
    def f(far: bool) -> Any:
        return sheepdog.map(abs, [(-1,)]) if far else 5

    near, far = Job(target=f, args=(False,), config=BARE), Job(target=f, args=(True,), config=BARE)
    assert started(near).result() == 5
    with pytest.raises(ImportError, match="No module named 'sheepdog'"):
        started(far).result()


def test_names_of_ones_own() -> None:
    """A class may have an attribute by which classes of ours are known; sheepdog may be one of the names in ns."""

    class Own(Job):
        stands_for = ("os", "getcwd")

        def run(self) -> object:
            return self.stands_for

    class Free:
        stands_for = ("os", "getcwd")

    assert started(Own(config=BARE)).result() == ("os", "getcwd")
    assert started(Job(target=lambda: Free().stands_for, config=BARE)).result() == ("os", "getcwd")
    assert sheepdog.map(lambda x: x, [(1,)], BARE, {"sheepdog": sheepdog}) == [1]


def test_a_subclass_that_forgets_its_parent() -> None:
    class Forgetful(Job):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"Forgetful.__init__\(\) must call super\(\).__init__\(\)"):
        Forgetful().start()


def test_a_subclass_with_a_name_of_its_own() -> None:
    class Named(Job):
        name = property(lambda _: "lamb", lambda *_: None)

    assert started(Named(target=divmod, args=(17, 5))).result() == (3, 2)


def test_a_job_cannot_be_made_where_one_runs() -> None:
    class Makes(Job):
        def run(self) -> Job:
            return Job(target=abs, args=(1,))

    for job in (Makes(config=BARE), Makes(config=BARE, target=abs)):
        with pytest.raises(RuntimeError, match="a job cannot be made inside a job: call the function"):
            started(job).result()


def test_a_target_in_the_place_of_the_group() -> None:
    with pytest.raises(JobError, match=r"group is <built-in function abs>; it must be None: write target=abs"):
        Job(abs)  # type: ignore[arg-type]


def test_an_exception_that_exits_when_it_is_loaded() -> None:
    class Exits(Exception):
        def __reduce__(self) -> Any:
            return sys.exit, (3,)

    def f() -> None:
        raise Exits

    with pytest.raises(TaskFailed, match="Exits"):
        started(Job(target=f)).result()


def test_a_job_cannot_be_started_where_it_runs() -> None:
    class Starts(Job):
        def run(self) -> None:
            self.start()

    with pytest.raises(RuntimeError, match="a job can be started once"):
        started(Starts()).result()


# --- many


def test_many_jobs_are_one_request(place: Path) -> None:
    class Own(Job):
        def run(self) -> str:
            return f"own {self.name}"

    jobs = [
        Job(target=divmod, args=(17, 5)),
        Own(name="a"),
        Job(target=sorted, args=([2, 1],), kwargs={"reverse": True}),
    ]
    assert dispatch_jobs(jobs) == (1, str(place / "sheepdog.sqlite"))
    assert [job.result() for job in jobs] == [(3, 2), "own a", [2, 1]]
    assert [job.request_id for job in jobs] == [1, 1, 1]
    assert [job.ident for job in jobs] == [(1 << 32) + number for number in (1, 2, 3)]
    assert dispatch_jobs([]) == (2, str(place / "sheepdog.sqlite"))


def test_a_target_travels_once() -> None:
    ballast = os.urandom(1 << 16)

    def f(x: int) -> tuple[int, int]:
        return x, len(ballast)

    dispatch_jobs(Job(target=f, args=(x,)) for x in range(20))
    with Storage(DB) as storage:
        sizes = [len(bytes(args)) for _, args in storage.read_tasks(1, range(1, 21), 1 << 30)]  # type: ignore[arg-type]
    assert max(sizes) < 100
    assert [value for _, value in sheepdog.get_results(1, DB)] == [(x, 1 << 16) for x in range(20)]


def test_one_of_many_is_ended(place: Path) -> None:
    """It is stopped where it runs; one that waits is never begun; the others go on."""

    def f(name: str) -> None:
        (place / f"{name}.part").write_text(str(os.getpid()))
        (place / f"{name}.part").rename(place / name)
        if name in "ab":
            time.sleep(1000)

    jobs = [Job(target=f, args=(name,), name=name) for name in "abcd"]
    dispatch_jobs(jobs, {"workers": 2, "lease": 3})
    until(lambda: (place / "a").exists() and (place / "b").exists(), "two run")
    jobs[2].kill()
    jobs[0].terminate()
    jobs[3].join()
    assert [job.exitcode for job in jobs] == [-15, None, -9, 0]
    assert [job.is_alive() for job in jobs] == [False, True, False, False]
    until(lambda: not Path("/proc", (place / "a").read_text()).exists(), "it was stopped")
    assert Path("/proc", (place / "b").read_text()).exists()
    jobs[1].kill()
    until(lambda: not Path("/proc", (place / "b").read_text()).exists(), "it was stopped")
    assert not (place / "c").exists()


def test_the_controller_is_for_those_who_ask() -> None:
    class Asks(Job):
        def run(self, controller: object = None) -> object:
            return controller

    class DoesNot(Job):
        def run(self) -> str:
            return "none"

    assert run_any(Asks(), "handle") == "handle"
    assert run_any(DoesNot(), "handle") == "none"
    assert run_any(Job(target=lambda x, controller: (x, controller), args=(1,)), "handle") == (1, "handle")
    assert run_any(Job(target=lambda x, controller: (x, controller), args=(1, "mine")), "handle") == (1, "mine")
    given = Job(target=lambda controller: controller, kwargs={"controller": "mine"})
    assert run_any(given, "handle") == "mine"
    assert run_any(Job(), "handle") is None
    assert run_any(Job(target=int, args=("3",)), "handle") == 3  # that has no signature

    class Around(Job):
        def run(self) -> object:
            return [super().run(), self]

    around = Around(target=lambda x, controller: (x, controller), args=(1,))
    assert run_any(around, "handle") == [(1, "handle"), around]
    assert around._kwargs == {}  # it may travel back

    class Both(Around):
        def run(self, controller: object = None) -> object:
            return [super().run(), controller]

    assert run_any(Both(target=lambda controller: controller), "handle") == [["handle", ANY], "handle"]


# --- bad input


@pytest.mark.parametrize("target", [5, "divmod", [], object()])
def test_a_target_that_cannot_be_called(target: Any) -> None:
    with pytest.raises(TypeError, match=r"target is .*, a (int|str|list|object); it must be something to call"):
        Job(target=target)


def test_a_target_that_cannot_be_serialised() -> None:
    lock = threading.Lock()

    def held() -> bool:
        return lock.locked()

    for _ in range(2):
        with pytest.raises(TypeError, match=r"the target .*held cannot be serialised: cannot pickle '_thread.lock'"):
            Job(target=held)


def test_arguments_that_cannot_be_serialised() -> None:
    class Own(Job):
        pass

    own = Own(name="lamb")
    own.lock = threading.Lock()  # type: ignore[attr-defined]
    jobs = [Job(target=print, args=(1,), kwargs={"end": threading.Lock()}), own]
    for job, words in zip(
        jobs, [r"print\(1, end=<unlocked _thread.lock", r"run\(<Own name='lamb' initial>"], strict=True
    ):
        with pytest.raises(SerialisationError, match=rf"the call {words}.*cannot be serialised"):
            job.start()
        assert (job.ident, job.is_alive()) == (None, False)
    job = Job(target=print, args=(1,), kwargs={})  # nothing is left of those
    job.start()
    assert job.request_id is not None
    with Storage(DB) as storage:
        assert len(storage.arrays(job.request_id)) == 1


def test_out_of_turn() -> None:
    """As a Process raises, and as a Thread does."""
    job = Job(name="lamb")
    uses: list[Callable[[], object]] = [job.join, job.result, job.terminate, job.kill]
    for use in uses:
        for kind in (AssertionError, RuntimeError, ValueError):
            with pytest.raises(kind, match=r"<Job name='lamb' initial> has not been started: start\(\) it before"):
                use()
    job.start()
    job.join()
    for kind in (AssertionError, RuntimeError):
        with pytest.raises(kind, match=r"<Job name='lamb' ident=.* stopped exitcode=0> has been started"):
            job.start()
    job.close()
    with pytest.raises(ValueError, match="<Job name='lamb' closed> has been closed"):
        job.result()


def test_what_cannot_be_dispatched() -> None:
    good, old = Job(target=print), started(Job(name="old"))
    for jobs, kind, words in [
        ([good, print], TypeError, "item 1 of the jobs is <built-in function print>, a builtin_function_or_method"),
        ([good, old], JobError, "<Job name='old' .*> has been started"),
        ([good, Job(), good], JobError, "<Job name='Job-.*' initial> is there twice"),
    ]:
        with pytest.raises(kind, match=words):
            dispatch_jobs(jobs)  # type: ignore[arg-type]
    assert good.ident is None


def test_a_wrong_configuration() -> None:
    job = Job(config={"memry": "2G"})
    with pytest.raises(ValueError, match="did you mean memory"):
        job.start()
    assert repr(job).endswith("initial>")
    job._config = None
    dispatch_jobs([job])
    assert job.result() is None


def test_jobs_together_have_one_configuration() -> None:
    job = Job(name="lamb", config=BARE)
    with pytest.raises(JobError, match=r"<Job name='lamb' initial> has a config of its own: start\(\) it by itself"):
        dispatch_jobs([Job(), job])
    assert started(job).result() is None


# --- words


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (Job(target=divmod, args=(17, 5)), "divmod(17, 5)"),
        (Job(target=sorted, args=([2, 1],), kwargs={"reverse": True}), "sorted([2, 1], reverse=True)"),
        (Job(), "Job()"),
        (Job(target=print, args=("x" * 200,)), f"print('{'x' * 76}...)"),
        (Job(target=print, args=tuple(range(1000))), f"{str(tuple(range(1000))).join(['print', ''])[:116]}...)"),
    ],
)
def test_the_call_in_short(job: Job, text: str) -> None:
    assert str(job) == text


def test_a_signal_without_a_name() -> None:
    job = started(Job(name="lamb", target=lambda: os.kill(os.getpid(), 50)))
    job.join()
    assert repr(job) == f"<Job name='lamb' ident={job.ident} stopped exitcode=-50>"


def test_a_job_without_a_name() -> None:
    job = Job(name="")
    assert job.name.startswith("Job-")
    job.name = ""
    assert started(job).result() is None


def test_a_job_whose_database_is_gone(place: Path) -> None:
    job = started(Job(name="lamb"))
    job.join()
    sheepdog.Server(dbfile=DB).stop()
    (place / "sheepdog.sqlite").write_bytes(b"no database at all")
    assert repr(job) == f"<Job name='lamb' ident={job.ident} unknown>"


def test_a_database_that_is_gone_is_not_made_again(place: Path) -> None:
    """Whoever asks learns that it is gone: a job that nobody knows is neither alive nor done."""
    job = started(Job(name="lamb"))
    job.join()
    sheepdog.Server(dbfile=DB).stop()
    for file in place.glob("sheepdog.sqlite*"):
        file.unlink()
    uses = (job.is_alive, job.join, job.result, job.terminate, lambda: job.exitcode, lambda: next(job.reports()))
    for use in uses:
        with pytest.raises(StorageError, match=r"sheepdog\.sqlite is gone, the database of the job 'lamb'"):
            use()
    assert repr(job) == f"<Job name='lamb' ident={job.ident} unknown>"
    assert list(place.glob("sheepdog.sqlite*")) == []
    Storage(DB).initdb()  # another one
    for use in uses:
        with pytest.raises(RequestNotFound):
            use()
    assert not sheepdog.Server(dbfile=DB).running


def test_the_example_of_the_docs(place: Path) -> None:
    code = textwrap.dedent("""
        import sheepdog
        job = sheepdog.Job(target=divmod, args=(17, 5))
        job.start()
        print(job.result(), job.exitcode)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(3, 2) 0\n", "")


# --- reports


def test_reports(place: Path) -> None:
    """They are seen as they come, by job; a subclass's run may ask for the controller, too."""

    def f(x: int, controller: Any) -> int:
        controller.report((x, "begun", controller.id))
        until((place / "go").exists, "go")
        controller.report((x, "done", controller.id))
        return x

    class Own(Job):
        def run(self, controller: Any) -> str:  # type: ignore[override]
            controller.report(self.name)
            return self.name

    jobs = [Job(target=f, args=(7,)), Own(name="lamb"), Job(target=f, args=(8,)), Job()]
    dispatch_jobs(jobs, {"workers": 4})
    first = jobs[0].reports()
    assert next(first) == (7, "begun", 1)
    assert [*jobs[1].reports()] == ["lamb"]
    assert jobs[0].is_alive()
    (place / "go").touch()
    assert [*first] == [(7, "done", 1)]
    assert [*jobs[2].reports()] == [(8, "begun", 3), (8, "done", 3)]
    assert [*jobs[3].reports()] == []
    assert [job.result() for job in jobs] == [7, "lamb", 8, None]
    alone = started(Job(target=f, args=(9,)))
    assert [*alone.reports()] == [(9, "begun", 1), (9, "done", 1)]
    with pytest.raises(JobError, match="has not been started"):
        next(Job().reports())
