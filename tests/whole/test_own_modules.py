"""Own modules travel as files, and are imported by name: what that makes good, on local processes."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.bundle.projects import SIM, write
from tests.faults import fault

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.slow]

DOORS = {
    "map": "s = sheepdog.map(sim.step, [(s,)], verbose=False)[0]",
    "imap": "s = next(sheepdog.imap(sim.step, [(s,)], verbose=False))",
    "imap over arguments alone": "s = next(sheepdog.imap(operator.methodcaller('advance'), [(s,)], verbose=False))",
    "Executor": "s = executor.submit(sim.step, s).result()",
    "Job": "job = sheepdog.Job(target=sim.step, args=(s,)); job.start(); s = job.result()",
    "joblib": "[s] = joblib.Parallel()([joblib.delayed(sim.step)(s)])",
    "gridengine": "[s] = gridengine.map(sim.step, [s])",
    "a process pool": "s = concurrent.futures.ProcessPoolExecutor(1, FORK).submit(sim.step, s).result()",
}


def run(place: Path, files: dict[str, str], program: str, *arguments: str) -> str:
    write(place, {**files, "main.py": program} if program else files)
    done = subprocess.run([sys.executable, *(arguments or ("main.py",))], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + "".join(line for line in done.stderr.splitlines(True) if "Warning: " in line)


@fault("second call", "a module's global changes between two calls over what the first returned", promise="it counts")
@pytest.mark.parametrize("door", DOORS)
def test_a_loop_that_sets_a_global(place: Path, door: str) -> None:
    program = f"""
        import concurrent.futures, multiprocessing, operator
        import joblib, gridengine, sheepdog, sheepdog.joblib, sim
        FORK = multiprocessing.get_context("fork")
        s = sim.State(0.)
        with sheepdog.Executor(workers=1) as executor, joblib.parallel_config("sheepdog", n_jobs=2):
            for sim.DT in (1.0, .5, .25):
                {DOORS[door]}
        print(s, type(s) is sim.State)
    """
    assert run(place, {"sim.py": SIM}, program) == "State(x=1.75) True\n"


@fault("own modules", "a module makes a request at its top, and workers import it", promise="it makes none there")
@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("a process pool", "joblib")])
def test_a_module_that_makes_a_request_when_it_is_imported(place: Path, door: str) -> None:
    """A task that makes a request when it runs does."""
    module = f"""
import operator
import sim, sheepdog, gridengine
open({str(place / "imported")!r}, "a").write("x")
if len(open({str(place / "imported")!r}).read()) > 5:
    raise SystemExit("too often")
def step(s): return sim.step(s)
def nested(s): return sheepdog.map(sim.step, [(s,)], {{"dbfile": "nested.sqlite"}}, verbose=False)[0]
s = sim.State(1.0)
executor = sheepdog.Executor(workers=1)
{DOORS[door].replace("sim.step", "step")}
executor.shutdown()
"""
    program = "import sheepdog, top; print(top.s, *sheepdog.map(top.nested, [(top.s,)], verbose=False))"
    said = run(place, {"sim.py": SIM, "top.py": module}, program)
    assert said.splitlines()[0] == "State(x=2.0) State(x=3.0)"
    assert len((place / "imported").read_text()) <= 3  # here, and by a worker of each request


@fault(
    "own modules", "... over objects of its own classes, which a thread makes bytes of, or loads", promise="it has them"
)
@pytest.mark.parametrize("door", [door for door in DOORS if door != "a process pool"])
def test_a_module_that_sends_objects_of_its_own_when_it_is_imported(place: Path, door: str) -> None:
    """Whoever imports what another thread is importing waits for it, and that one waits for the results."""
    module = f"""
import faulthandler; faulthandler.dump_traceback_later(60, exit=True)
import operator
import joblib, gridengine, sheepdog, sheepdog.joblib, sim
class Mine(sim.State):
    def advance(self): return Mine(self.x + 1)
s = Mine(1.0)
with sheepdog.Executor(workers=1) as executor, joblib.parallel_config("sheepdog", n_jobs=2):
    {DOORS[door]}
faulthandler.cancel_dump_traceback_later()
"""
    assert run(place, {"sim.py": SIM, "top.py": module}, "import top; print(type(top.s) is top.Mine, top.s.x)") == (
        "True 2.0\n"
    )


def test_what_did_not_travel_is_said_with_what_to_do(place: Path) -> None:
    files = {
        "mine.py": """
            from pathlib import Path
            def table(name): return (Path(__file__).parent / name).read_text()
            def load(name): return __import__(name)
        """,
        "table.csv": "1",
        "late.py": "",
    }
    program = """
        import mine, sheepdog
        for number, call in enumerate([(mine.table, "table.csv"), (mine.load, "late")], 1):
            sheepdog.map(call[0], [call[1:]], verbose=False)
            print(next(iter(sheepdog.get_errors(number, "sheepdog.sqlite")))[1].splitlines()[0])
    """
    file, module = run(place, files, program).splitlines()
    assert file.endswith(
        f"'{place}/table.csv' (it did not travel: name it in ship=[...], if it is there on your machine)"
    )
    assert module.endswith("'late' (if late is your own, name it in ship=[...]; if it is installed, see packages)")


PROJECT = {
    "pkg/__init__.py": "import pkg.util\nfrom . import one\n",
    "pkg/util.py": """
        import pkg
        from pathlib import Path
        def table(): return (Path(__file__).parent / "t.csv").read_text()
    """,
    "pkg/t.csv": "1,2",
    "pkg/one.py": "from . import two\nclass One:\n    def two(self): return two.Two()\n",
    "pkg/two.py": "from . import one\nclass Two:\n    def one(self): return one.One()\n",
    "helpers.py": """
        import threading, functools, contextvars
        from dataclasses import dataclass
        LOCK = threading.Lock()
        LEVEL = contextvars.ContextVar("level", default=3)
        @dataclass(slots=True, frozen=True)
        class Point:
            x: int
        @functools.singledispatch
        def kind(x): return "any"
        @kind.register
        def _(x: int): return "int"
        def double(x):
            with LOCK:
                return Point(2 * x.x)
    """,
    "late.py": "VALUE = 5\n",
}
CASES = {
    "cycles": ("lambda: type(pkg.one.One().two().one()).__name__", "'One'"),
    "a package that imports itself": ("pkg.util.table", "'1,2'"),
    "locks and slots": ("functools.partial(helpers.double, helpers.Point(2))", "Point(x=4)"),
    "single dispatch": ("functools.partial(helpers.kind, 1)", "'int'"),
    "context variables": ("lambda: helpers.LEVEL.get()", "3"),
    "an import within the function": ("lazily", "5"),
    "a pool of processes in a task": ("pool", "[Point(x=2), Point(x=4)]"),
    "pickle in a task": ("lambda: pickle.loads(pickle.dumps(helpers.Point(1)))", "Point(x=1)"),
    "a module": ("lambda: helpers.__name__", "'helpers'"),
}


@fault(
    "own modules",
    "modules import each other, hold locks, have slots, data files and tables of functions, or are used by pools",
    promise="they are there as they are here: as files, imported by name",
)
def test_what_a_module_may_be(place: Path) -> None:
    program = f"""
        import functools, multiprocessing, pickle
        import sheepdog, pkg, helpers
        def lazily():
            import late
            return late.VALUE
        def pool():
            with multiprocessing.get_context("fork").Pool(1) as processes:
                return processes.map(helpers.double, [helpers.Point(1), helpers.Point(2)])
        CASES = [{", ".join(f for f, _ in CASES.values())}]
        for value in sheepdog.map(lambda f: f(), [(f,) for f in CASES], verbose=False):
            print(repr(value))
    """
    said = run(place, PROJECT, program)
    assert said.splitlines() == [answer for _, answer in CASES.values()]


@pytest.mark.parametrize("how", [("-m", "proj.main"), ("proj/main.py",), ("-c", "import proj.main")])
def test_however_the_program_is_run(place: Path, how: tuple[str, ...]) -> None:
    files = {
        "proj/__init__.py": "",
        "sim.py": SIM,
        "proj/sim.py": SIM,
        "proj/main.py": """
            import sheepdog
            import sim
            class Here(sim.State): pass
            print(*sheepdog.map(sim.step, [(sim.State(1.),)], verbose=False))
            print(*sheepdog.map(lambda x: Here(x).advance(), [(1.,)], verbose=False))
        """,
    }
    assert run(place, files, "", *how) == "State(x=2.0)\nState(x=2.0)\n"


LOOP = [
    "import sheepdog, sim",
    "s = sim.State(0.)",
    "def mine(s): return sim.step(s)",
    "for sim.DT in (1.0, .5, .25): s = sheepdog.map(mine, [(s,)], verbose=False)[0]",
]


def test_in_a_notebook(place: Path) -> None:
    import nbclient  # seconds
    import nbformat

    write(place, {"sim.py": SIM})
    empty: dict[str, object] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**empty, "source": line} for line in [*LOOP, "(s, type(s) is sim.State)"]]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "(State(x=1.75), True)"


def test_in_an_interactive_interpreter(place: Path) -> None:
    write(place, {"sim.py": SIM})
    typed = "\n\n".join([*LOOP, "print(s, type(s) is sim.State)\n"])
    done = subprocess.run([sys.executable, "-i"], input=typed, capture_output=True, text=True, timeout=120)
    assert done.stdout == "State(x=1.75) True\n", done.stderr


def test_under_pytest(place: Path) -> None:
    loop = "\n".join(f"    {line}" for line in LOOP)
    files = {"sim.py": SIM, "tests/test_sim.py": f"def test_sim():\n{loop}\n    assert s == sim.State(1.75)\n"}
    said = run(place, files, "", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "tests/test_sim.py")
    assert "1 passed" in said


ALIKE = """
    import concurrent.futures, multiprocessing, pkg, helpers, sheepdog, sim
    from joblib.externals.loky import ProcessPoolExecutor as Loky

    CALLS = [
        (sim.step, sim.State(1.)),
        (sim.State.advance, sim.State(2.)),
        (sim.State, 3.),
        (helpers.double, helpers.Point(4)),
        (helpers.kind, 5),
        (helpers.kind, "text"),
        (pkg.one.One.two, pkg.one.One()),
        (helpers.level, None),
        (helpers.named, helpers.Point),
        (helpers.fail, helpers.Point(6)),
    ]
    def answer(future):
        try:
            value = future.result(60)
        except Exception as error:
            value = error
        return type(value), value if type(value).__eq__ is not object.__eq__ else repr(value).partition(" at ")[0]

    if __name__ == "__main__":
        answers = []
        spawn = multiprocessing.get_context("spawn")
        for executor in (concurrent.futures.ProcessPoolExecutor(1, spawn), Loky(1), sheepdog.Executor(workers=1)):
            with executor:
                answers.append([answer(future) for future in [executor.submit(f, value) for f, value in CALLS]])
        for call, *each in zip(CALLS, *answers):
            print(call[0].__qualname__, each[0] == each[1] == each[2] or each)
"""


def test_answers_are_those_of_a_process_pool_and_of_loky(place: Path) -> None:
    files = {
        **PROJECT,
        "sim.py": SIM,
        "helpers.py": PROJECT["helpers.py"]
        + """
        class Wrong(Exception): pass
        def level(_): return LEVEL.get()
        def named(kind): return kind
        def fail(point): raise Wrong(point)
        """,
    }
    said = run(place, files, ALIKE)
    assert [line.split()[-1] for line in said.splitlines()] == ["True"] * 10, said


@fault(
    "own modules",
    "an own module cannot be imported on a worker",
    promise="what the function needs of it comes by value, and its classes are the same",
)
def test_a_module_that_cannot_be_imported_there(place: Path) -> None:
    files = {
        "plots.py": """
            import os
            if "SHEEPDOG_REQUEST_ID" in os.environ:
                raise ImportError("no matplotlib")
            SCALE = 2
            class Size:
                def __init__(self, x): self.x = x
            def size(x): return Size(SCALE * x)
        """
    }
    program = """
        import sheepdog, plots
        for plots.SCALE in (2, 3):
            [found] = sheepdog.map(plots.size, [(2,)])
            print(found.x, type(found) is plots.Size)
        with sheepdog.Executor(workers=1) as executor:
            print([each.x for each in executor.map(plots.size, range(3))])
    """
    write(place, {**files, "main.py": program})
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout == "4 True\n6 True\n[0, 3, 6]\n", done.stderr
    said = "sheepdog: plots cannot be imported there (ImportError: no matplotlib): what came of it by value stands in\n"
    assert done.stderr.count(said) == 3  # once for each request


@fault("own modules", "a file changes after its call was submitted", promise="the call runs what was submitted")
def test_code_is_frozen_at_submission(place: Path) -> None:
    program = """
        import pathlib, time
        import sheepdog, sim
        def wait():
            while not pathlib.Path("go").exists(): time.sleep(.01)
        with sheepdog.Executor(workers=1) as executor:
            executor.submit(wait)
            late = executor.submit(sim.step, sim.State(1.))
            pathlib.Path("sim.py").write_text("1 / 0")
            pathlib.Path("go").touch()
            print(late.result())
    """
    assert run(place, {"sim.py": SIM}, program) == "State(x=2.0)\n"


LATE = {
    "map": "print(sheepdog.map(mine.read, [()], verbose=False))",
    "imap": "print(list(sheepdog.imap(mine.read, [()], verbose=False)))",
    "imap, with a later argument": """
        def later():
            yield (len, ())
            import other
            yield (other.read,)
        print(list(sheepdog.imap(lambda f, *x: f(*x), later(), verbose=False))[-1:])
    """,
    "Executor": "print([executor.submit(mine.read).result()])",
    "Executor, with a later call": """
        executor.submit(len, ()).result()
        print([executor.submit(mine.read).result()])
    """,
    "retry": """
        sheepdog.map(len, [(3,)], verbose=False)
        sheepdog.retry(1, "sheepdog.sqlite", f=lambda _: mine.read())
        print([result for _, result in sheepdog.get_results(1, "sheepdog.sqlite")])
    """,
}


@fault(
    "own modules",
    "a file changes between the moment when it is found and the moment when it is packed",
    promise="what the file is by then travels; one that changes on and on is named",
)
@pytest.mark.parametrize("door", LATE)
@pytest.mark.parametrize("changes", [1, 99])
def test_a_file_that_changes_while_it_is_packed(place: Path, door: str, changes: int) -> None:
    read = "from pathlib import Path\ndef read(): return (Path(__file__).parent / 'data.txt').read_text()\n"
    program = f"""
import pathlib
import sheepdog, mine
from sheepdog.bundle import bundle, stamps
stamps.SETTLED = -1.0  # no file may be being written still
changes = [*"x" * {changes}]
def pack(contents, pack=bundle.pack):
    if changes and any(path.endswith("data.txt") for path in contents.files):
        with open("data.txt", "a") as file:
            file.write(changes.pop())
    return pack(contents)
bundle.pack = pack
with sheepdog.Executor(workers=1) as executor:
    try:
{indent(dedent(LATE[door]), " " * 8)}
    except sheepdog.errors.SerialisationError as error:
        print(error)
"""
    said = run(place, {"mine.py": read, "other.py": read, "data.txt": ""}, program)
    if changes == 1:
        assert said == "['x']\n"
    else:
        assert said == f"{place}/data.txt changes while it is packed: try again when it is written\n"


@fault("own modules", "a file is another than the one that was imported", promise="that is said, and the file counts")
def test_a_file_that_has_changed_since_its_import_is_said(place: Path) -> None:
    program = """
        import pathlib
        import sheepdog, sim
        pathlib.Path("sim.py").write_text(pathlib.Path("sim.py").read_text().replace("return s", "return 7 or s"))
        print(sheepdog.map(sim.step, [(sim.State(1.),)], verbose=False))
    """
    said = run(place, {"sim.py": SIM}, program)
    assert said.startswith("[7]\n")
    assert "sim.py has changed since sim was imported here" in said


def test_a_later_call_needs_another_module(place: Path) -> None:
    """Which goes to the workers that are there, and comes in a process that has not imported the earlier ones."""
    program = """
        import pathlib
        import sheepdog, sim
        def lazily():
            import sim, other
            return sim.DT + other.X
        with sheepdog.Executor(workers=1) as executor:
            print(executor.submit(sim.step, sim.State(1.)).result())
            import other
            print(executor.submit(other.get, 1).result(), executor.submit(lazily).result())
            print(executor.submit(sim.step, sim.State(1.)).result())
        print(list(sheepdog.imap(lambda f, *x: f(*x), [(sim.step, sim.State(1.)), (other.get, 2)], verbose=False)))
    """
    said = run(place, {"sim.py": SIM, "other.py": "X = 1\ndef get(x): return x + X\n"}, program)
    assert said == "State(x=2.0)\n2 2.0\nState(x=2.0)\n[State(x=2.0), 3]\n"


@fault("own modules", "a result is of a class of a module that is not here", promise="it is had from what was sent")
@pytest.mark.parametrize("gone", [False, True])
def test_results_in_another_process(place: Path, gone: bool) -> None:
    run(place, {"sim.py": SIM}, "import sheepdog, sim\nsheepdog.map(sim.step, [(sim.State(1.),)])\n")
    if gone:
        (place / "sim.py").unlink()
    later = """
        import sheepdog
        [(args, s)] = sheepdog.get_results(1, "sheepdog.sqlite")
        import sim
        print(s, type(s) is sim.State, args)
    """
    said = run(place, {}, later)
    assert said.startswith("State(x=2.0) True (State(x=1.0),)\n")
    assert ("there is no module sim here: it is taken from what was sent" in said) == gone


def test_retry_takes_the_files_as_they_are_now(place: Path) -> None:
    files = {"mine.py": "def f(x): return 1 / 0\n"}
    run(place, files, "import sheepdog, mine\nsheepdog.map(mine.f, [(1,)])\n")
    program = """
        import sheepdog, mine
        assert sheepdog.retry(1, "sheepdog.sqlite", f=mine.f) == 1
        print(sheepdog.get_results(1, "sheepdog.sqlite"))
    """
    assert run(place, {"mine.py": "import more\ndef f(x): return more.X\n", "more.py": "X = 9\n"}, program) == (
        "[((1,), 9)]\n"
    )


LATE_CLASS = "import more\nclass L:\n    def __init__(self): self.v = more.V\n    def get(self): return self.v\n"
FIRST_TIME = """
    import pathlib, sys
    import sheepdog, late
    def f(l): return 1 / 0
    sheepdog.map_async(f, [(late.L(),)])
    sheepdog.get_results(1, "sheepdog.sqlite")
"""
AGAIN = """
    import sheepdog
    def f(l): return l.get()
    assert sheepdog.retry(1, "sheepdog.sqlite", f=f) == 1
    results = [result for _, result in sheepdog.get_results(1, "sheepdog.sqlite")]
    print(results, sheepdog.get_errors(1, "sheepdog.sqlite"))
"""


@fault(
    "own modules",
    "a request is run again with another function, and its arguments are of modules that this does not name",
    promise="they travel again: as they are now or, if they are not here any more, as they were sent",
)
@pytest.mark.parametrize("now", ["the same process", "another", "it has changed", "it is elsewhere", "it is gone"])
def test_retry_has_what_the_arguments_need(place: Path, now: str) -> None:
    files = {"late.py": LATE_CLASS, "more.py": "V = 3\n"}
    if now == "the same process":
        assert run(place, files, dedent(FIRST_TIME) + dedent(AGAIN)) == "[3] []\n"
        return
    run(place, files, FIRST_TIME)
    if now == "it has changed":
        write(
            place,
            {"late.py": LATE_CLASS.replace("self.v\n", "self.v + other.W\n") + "import other\n", "other.py": "W = 4\n"},
        )
    elif now != "another":
        (place / "late.py").unlink()
        (place / "more.py").unlink()
    if now == "it is elsewhere":
        write(place, {"lib/late.py": LATE_CLASS.replace("self.v\n", "8\n"), "lib/more.py": "V = 5\n"})
    again = AGAIN if now != "it is elsewhere" else "import sys\nsys.path.append('lib')\n" + dedent(AGAIN)
    said = run(place, {}, again)
    value = {"it has changed": 7, "it is elsewhere": 8}.get(now, 3)
    assert said.splitlines()[0] == f"[{value}] []"


@fault(
    "own modules",
    "an open request, whose arguments came to need more modules, is run again with another function",
    promise="all of them have the function's modules as they are now, and their own",
)
@pytest.mark.parametrize("gone", [False, True])
def test_retry_of_an_open_request(place: Path, gone: bool) -> None:
    program = """
        import sheepdog, mine
        def drawn():
            yield (1,)
            import late
            yield (late.L(),)
        try:
            list(sheepdog.imap(mine.f, drawn(), verbose=False))
        except ZeroDivisionError:
            pass
    """
    files = {"mine.py": "def f(x): return 1 / 0\n", "late.py": LATE_CLASS, "more.py": "V = 3\n"}
    run(place, files, program)
    if gone:
        (place / "late.py").unlink()
        (place / "more.py").unlink()
    program = """
        import sheepdog, mine
        assert sheepdog.retry(1, "sheepdog.sqlite", f=mine.f) == 2
        print([result for _, result in sheepdog.get_results(1, "sheepdog.sqlite")])
    """
    now = "import new\ndef f(x): return new.X, getattr(x, 'v', x)\n"
    said = run(place, {"mine.py": now, "new.py": "X = 9\n"}, program)
    assert said.splitlines()[0] == "[(9, 1), (9, 3)]"


def test_what_cannot_travel_is_named(place: Path) -> None:
    program = """
        import threading
        import sheepdog
        lock = threading.Lock()
        table = {"a": [1, lock]}
        def f(): return table
        try:
            sheepdog.map(f, [()])
        except TypeError as error:
            print(error)
        try:
            sheepdog.map(len, [(table,)])
        except TypeError as error:
            print(error)
    """
    one, two = run(place, {}, program).splitlines()
    assert "the function f cannot be serialised: cannot pickle '_thread.lock' object" in one
    assert "f -> table -> ['a'] -> [1], a _thread.lock" in one
    assert "arguments -> [0] -> ['a'] -> [1], a _thread.lock" in two


@pytest.mark.parametrize("ship", ["['data.txt']", "False"])
def test_ship(place: Path, ship: str) -> None:
    """A file that nothing names; or none at all: then the workers find own modules by themselves, or not."""
    program = f"""
        import pathlib
        import sheepdog, sim
        def read(): return pathlib.Path(__file__).with_name("data.txt").read_text()
        print(sheepdog.map(read, [()], {{"ship": {ship}}}, verbose=False))
        print(sheepdog.map(sim.step, [(sim.State(1.),)], {{"ship": {ship}}}, verbose=False))
    """
    said = run(place, {"sim.py": SIM, "data.txt": "data"}, program)
    assert said == ("['data']\n[State(x=2.0)]\n" if ship != "False" else "['data']\n[None]\n")
