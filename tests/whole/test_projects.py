"""A project as people have them, unchanged, with workers of another Python."""

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.bundle.projects import write
from tests.faults import fault
from tests.pythons import WORKERS, python_of

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.slow]

PROJECT = {
    # One whose modules import each other, by names relative to it and by whole ones
    "model/__init__.py": "from .state import State\nfrom . import step\n",
    "model/state.py": """
        from . import step
        class State(object):
            __slots__ = ("x",)
            def __init__(self, x):
                self.x = x
            def __repr__(self):
                return "State(%r)" % self.x
            def advance(self):
                return step.advance(self)
    """,
    "model/step.py": """
        import threading
        import model.state
        from tables import rate
        LOCK = threading.Lock()
        SCALE = 1
        def advance(state):
            with LOCK:
                return model.state.State(state.x + SCALE * rate("b"))
    """,
    # One that reads a file beside it, and imports the first, which imports it
    "tables/__init__.py": """
        import csv
        from pathlib import Path
        import model
        HERE = Path(__file__).parent
        def rate(name):
            with (HERE / "data" / "rates.csv").open() as file:
                return int(dict(csv.reader(file))[name])
        def largest(states):
            assert all(type(each) is model.State for each in states)
            return max(states, key=lambda each: each.x)
    """,
    "tables/data/rates.csv": "a,1\nb,20\n",
    # One that imports the others where it needs them, and has something that is compiled
    "run/__init__.py": "",
    "run/top.py": "from .deep import fast\ndef place(x):\n    return fast.bisect([1, 3], x)\n",
    "run/work.py": """
        from .deep import settings
        def work(x):
            import model
            from tables import largest
            first = model.State(x)
            return largest([first, first.advance()]), settings.NAME
        def place(x):
            from .deep.fast import bisect
            return bisect([1, 3], x)
    """,
    "run/deep/__init__.py": "",
    "run/deep/settings.py": "from .. import deep\nNAME = deep.__name__\n",
    "run/deep/fast.py": "from ._bisect import bisect_right as bisect\n",
}

MAIN = """
    import sys
    import model, sheepdog
    from run import top, work
    model.step.SCALE = 2
    C = {"scheduler": "local", "workers": 1, "shell": sys.argv[1]}
    here = [work.work(x) for x in range(2)]
    there = sheepdog.map(work.work, [(x,) for x in range(2)], C, verbose=False)
    print(*there, repr(here) == repr(there), all(type(state) is model.State for state, _ in there), work.place(2))
    print(sheepdog.map(work.place, [(2,)], C, verbose=False), next(iter(sheepdog.get_errors(2, "sheepdog.sqlite")))[1])
    try:
        sheepdog.map(top.place, [(2,)], C, verbose=False)
    except sheepdog.NotRun as error:
        print(error)
"""


@fault(
    "own modules",
    "packages that import each other, relative and late, with data and something compiled, on another Python",
    promise="they run there as they are; what is compiled for this Python is named where it is needed",
)
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_three_packages_and_a_worker_of_another_python(place: Path, which: str) -> None:
    others = [each for minor in WORKERS if minor != sys.version_info.minor and (each := python_of(minor))]
    if not others:
        pytest.skip("there is no other Python on this machine")
    compiled = find_spec("_bisect")
    if compiled is None or not str(compiled.origin).endswith(tuple(EXTENSION_SUFFIXES)):
        pytest.skip("this Python has no module _bisect in a file of its own")
    write(place, {**PROJECT, "main.py": MAIN})
    fast = shutil.copy(str(compiled.origin), place / "run/deep")
    command = [sys.executable, "main.py", others[0 if which == "oldest" else -1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    right, late, *_, top, _ = done.stdout.splitlines()
    assert right == "(State(40), 'run.deep') (State(41), 'run.deep') True True 1"
    words = f"No module named 'run.deep._bisect' ({fast} is compiled for another Python or machine: take the one"
    assert late.startswith(f"[None] ModuleNotFoundError: {words}")
    assert top.startswith("no task of request 3 could be run: ")
    assert f"{place}/run/deep/fast.py, line 1: ModuleNotFoundError: {words}" in top
    assert f"{fast} is compiled for this Python and this machine: the module run.deep._bisect" in done.stderr
