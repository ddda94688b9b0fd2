"""What a program expects of multiprocessing.Process, of a Process itself and of a Job: the same tests, unchanged."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gridengine
import sheepdog
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")

KINDS = {"process": multiprocessing.get_context("fork").Process, "job": gridengine.Job}


@pytest.fixture(params=KINDS)
def Process(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


def write(path: Path, *words: object) -> None:
    """Write as a whole: whoever sees the file can read it."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(" ".join(map(str, words)))
    part.rename(path)


def run(p: Any) -> int | None:
    p.start()
    p.join()
    code = p.exitcode
    assert code is None or isinstance(code, int)
    return code


# --- a life


def test_a_whole_life(Process: Any, place: Path) -> None:
    def target(path: Path, *args: int, **kwargs: int) -> None:
        write(path, args, kwargs)

    p = Process(target=target, name="lamb", args=(place / "file", 1, 2), kwargs={"key": 3})
    assert (p.name, p.daemon, p.ident, p.pid, p.exitcode, p.is_alive()) == ("lamb", False, None, None, None, False)
    assert p.start() is None
    assert isinstance(p.ident, int)
    assert p.pid == p.ident
    assert p.join() is None
    assert (p.exitcode, p.is_alive()) == (0, False)
    assert (place / "file").read_text() == "(1, 2) {'key': 3}"
    assert p.join() is None  # again
    assert p.close() is None


def test_it_runs_elsewhere(Process: Any, place: Path) -> None:
    p = Process(target=lambda path: write(path, os.getpid()), args=(place / "pid",))
    assert run(p) == 0
    assert int((place / "pid").read_text()) != os.getpid()


def test_what_it_changes_stays_there(Process: Any) -> None:
    things: list[int] = []
    assert run(Process(target=things.append, args=(1,))) == 0
    assert things == []


def test_without_a_target(Process: Any) -> None:
    assert run(Process()) == 0


def test_run_runs_it_here(Process: Any) -> None:
    things: list[int] = []
    p = Process(target=things.append, args=(1,))
    p.run()
    assert things == [1]
    assert (p.is_alive(), p.exitcode, p.ident) == (False, None, None)


def test_args_may_be_a_list(Process: Any, place: Path) -> None:
    assert run(Process(target=write, args=[place / "file", 1, 2])) == 0
    assert (place / "file").read_text() == "1 2"


def test_many_at_once(Process: Any, place: Path) -> None:
    processes = [Process(target=write, args=(place / f"file{i}", i)) for i in range(5)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 5
    assert [(place / f"file{i}").read_text() for i in range(5)] == ["0", "1", "2", "3", "4"]
    assert len({p.ident for p in processes}) == 5


# --- subclasses


def test_subclass(Process: Any, place: Path) -> None:
    class Writer(Process):  # type: ignore[misc]
        def __init__(self, path: Path, words: list[str]) -> None:
            super().__init__(name="writer")
            self.path = path
            self.words = words

        def run(self) -> None:
            self.helper()
            self.words.append("more")

        def helper(self) -> None:
            write(self.path, self.name, *self.words, isinstance(self, Writer))

    p = Writer(place / "file", ["a", "b"])
    assert run(p) == 0
    assert (place / "file").read_text() == "writer a b True"
    assert p.words == ["a", "b"]


def test_subclass_of_a_subclass_that_calls_its_parents(Process: Any, place: Path) -> None:
    class Base(Process):  # type: ignore[misc]
        prefix = "base"

        def run(self) -> None:
            super().run()
            write(self.path, self.prefix, self._args, self.daemon)

    class Derived(Base):
        prefix = "derived"

        def __init__(self, path: Path, **kwargs: Any) -> None:
            Process.__init__(self, target=sorted, args=([2, 1],), **kwargs)
            self.path = path

    assert run(Derived(place / "file", daemon=True)) == 0
    assert (place / "file").read_text() == "derived ([2, 1],) True"


def test_alive_in_itself(Process: Any, place: Path) -> None:
    class Looks(Process):  # type: ignore[misc]
        def run(self) -> None:
            write(place / "file", self.is_alive(), self.exitcode, isinstance(self.ident, int))

    assert run(Looks()) == 0
    assert (place / "file").read_text() == "True None True"


def test_nothing_good_comes_of_joining_oneself(Process: Any) -> None:
    class Waits(Process):  # type: ignore[misc]
        def run(self) -> None:
            self.join()

    assert run(Waits()) == 1


# --- how it ends

ENDS: dict[str, tuple[Callable[[], object], int]] = {
    "returns": (lambda: 5, 0),
    "raises": (lambda: 1 / 0, 1),
    "exits": (sys.exit, 0),
    "exits with None": (lambda: sys.exit(None), 0),
    "exits with 0": (lambda: sys.exit(0), 0),
    "exits with 7": (lambda: sys.exit(7), 7),
    "exits with -1": (lambda: sys.exit(-1), 255),
    "exits with 259": (lambda: sys.exit(259), 3),
    "exits with True": (lambda: sys.exit(True), 1),
    "exits with False": (lambda: sys.exit(False), 0),
    "exits with words": (lambda: sys.exit("it is raining"), 1),
    "exits with words of a number": (lambda: sys.exit("7"), 1),
    "is interrupted": (lambda: (_ for _ in ()).throw(KeyboardInterrupt()), 1),
    "leaves": (lambda: os._exit(5), 5),
    "is killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
    "is terminated": (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM),
    "crashes": (lambda: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)), -signal.SIGSEGV),
    "aborts": (lambda: (faulthandler.disable(), os.abort()), -signal.SIGABRT),
    "has no memory": (lambda: (_ for _ in ()).throw(MemoryError()), 1),
}


@pytest.mark.parametrize("how", ENDS)
def test_exitcode(Process: Any, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    target, code = ENDS[how]
    assert run(Process(target=target)) == code


@pytest.mark.parametrize(("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_end_it(Process: Any, place: Path, method: str, number: signal.Signals) -> None:
    def target() -> None:
        write(place / "pid", os.getpid())
        time.sleep(1000)

    p = Process(target=target)
    p.start()
    until((place / "pid").exists, "it runs")
    assert p.is_alive()
    assert getattr(p, method)() is None
    p.join()
    assert (p.exitcode, p.is_alive()) == (-number, False)
    until(lambda: not Path("/proc", (place / "pid").read_text()).exists(), "its process has ended")
    getattr(p, method)()  # again
    assert p.exitcode == -number


def test_end_what_has_ended(Process: Any) -> None:
    p = Process()
    assert run(p) == 0
    p.terminate()
    p.kill()
    assert p.exitcode == 0


# --- waiting


@pytest.fixture
def waiter(Process: Any, place: Path) -> Iterator[Any]:
    def target() -> None:
        while not (place / "go").exists():
            time.sleep(0.01)

    p = Process(target=target)
    p.start()
    yield p
    (place / "go").touch()
    p.join()


def test_join_with_a_timeout(waiter: Any, place: Path) -> None:
    for timeout in (0, 0.0, 0.05, -1):
        assert waiter.join(timeout) is None
        assert (waiter.is_alive(), waiter.exitcode) == (True, None)
    (place / "go").touch()
    assert waiter.join(timeout=60) is None
    assert (waiter.is_alive(), waiter.exitcode) == (False, 0)


def test_what_runs_cannot_be_closed(waiter: Any) -> None:
    with pytest.raises(ValueError, match=r"Cannot close a process while it is still running|cannot be closed while"):
        waiter.close()
    assert waiter.is_alive()


def test_start_twice(waiter: Any, place: Path) -> None:
    with pytest.raises(AssertionError, match=r"cannot start a process twice|can be started once"):
        waiter.start()
    (place / "go").touch()
    waiter.join()
    with pytest.raises(AssertionError, match=r"cannot start a process twice|can be started once"):
        waiter.start()


def test_daemon_cannot_be_changed_while_it_runs(waiter: Any) -> None:
    with pytest.raises(AssertionError, match=r"process has already started|has been started"):
        waiter.daemon = True
    assert waiter.daemon is False


# --- out of turn


def test_join_before_start(Process: Any) -> None:
    with pytest.raises(AssertionError, match=r"can only join a started process|has not been started"):
        Process().join()


def test_group_must_be_none(Process: Any) -> None:
    assert Process(None, None, "lamb").name == "lamb"
    with pytest.raises(AssertionError, match=r"must be None"):
        Process(group=1)


@pytest.mark.parametrize("started", [False, True])
def test_after_close(Process: Any, started: bool) -> None:
    p = Process(name="lamb")
    if started:
        run(p)
    p.close()
    p.close()
    for use in (p.start, p.join, p.is_alive, p.terminate, p.kill):
        with pytest.raises(ValueError, match=r"closed"):
            use()
    for attribute in ("exitcode", "ident", "pid"):
        with pytest.raises(ValueError, match=r"closed"):
            getattr(p, attribute)
    assert p.name == "lamb"
    assert repr(p) in ("<Job name='lamb' closed>", f"<ForkProcess name='lamb' parent={os.getpid()} closed>")


def test_what_is_no_call(Process: Any) -> None:
    with pytest.raises(TypeError):
        Process(target=print, args=5)
    with pytest.raises(TypeError):
        Process(nothing=5)


# --- its names


def test_names(Process: Any) -> None:
    class Lamb(Process):  # type: ignore[misc]
        pass

    first, second = Process(), Process()
    kind, _, number = first.name.partition("-")
    assert kind == Process.__name__
    assert int(second.name.partition("-")[2]) == int(number) + 1
    assert Lamb().name.startswith("Lamb-")
    first.name = "sheep"
    assert first.name == "sheep"
    with pytest.raises((TypeError, AssertionError)):
        first.name = 5


def test_daemon(Process: Any) -> None:
    assert Process(daemon=True).daemon is True
    p = Process()
    assert p.daemon is False
    p.daemon = True
    assert p.daemon is True
    assert run(p) == 0
    assert p.daemon is True


def test_repr(Process: Any, place: Path) -> None:
    p = Process(name="lamb", target=time.sleep, args=(1000,))
    kind = type(p).__name__
    assert repr(p) == f"<{kind} name='lamb' {place_of(p, '')}initial>"
    p.start()
    assert repr(p) == f"<{kind} name='lamb' {place_of(p)}started>"
    p.terminate()
    p.join()
    assert repr(p) == f"<{kind} name='lamb' {place_of(p)}stopped exitcode=-SIGTERM>"
    p = Process(name="ram", daemon=True, target=sys.exit, args=(3,))
    run(p)
    assert repr(p) == f"<{kind} name='ram' {place_of(p)}stopped exitcode=3 daemon>"


def place_of(p: Any, started: str = "yes") -> str:
    """What of its text is its own: a process has a parent, a job has its number."""
    if isinstance(p, sheepdog.Job):
        return f"ident={p.ident} " if started else ""
    return f"pid={p.pid} parent={os.getpid()} " if started else f"parent={os.getpid()} "
