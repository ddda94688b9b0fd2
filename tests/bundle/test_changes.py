"""A file that is another than the one that its module was imported from."""

from pathlib import Path

import pytest

from tests.bundle.projects import ask, write

pytestmark = pytest.mark.slow  # each test starts a Python

HAS_CHANGED = """
import importlib, sys
from pathlib import Path
from sheepdog.bundle.changes import Sights
from sheepdog.bundle.code import code_of, look_at
sights = Sights()
def changed():
    path = sys.modules["mine"].__file__
    return sights.has_changed("mine", sys.modules["mine"], path, look_at(code_of(path)))
def write(text):
    Path("mine.py").write_text(text)
import mine
answer = []
"""
MINE = """
import functools, collections
LIMIT = 3
@functools.lru_cache
def cached(): return 1
def f(x): return x + 1
class C:
    def m(self): return 2
    @staticmethod
    def s(): return 3
    @property
    def p(self): return 4
Point = collections.namedtuple("Point", "x y")
made = eval("lambda: 5")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {"mine.py": MINE})


@pytest.mark.parametrize("change", ["x + 1|x - 1", "return 2|return 22", "return 3|return 33"])
def test_a_function_that_is_not_in_the_file_any_more(project: Path, change: str) -> None:
    old, new = change.split("|")
    program = f"write({MINE!r}.replace({old!r}, {new!r})); answer += [changed()]"
    assert ask(HAS_CHANGED + program, project) == [True]


def test_no_false_alarm(project: Path) -> None:
    program = "answer += [changed(), changed()]"
    assert ask(HAS_CHANGED + program, project) == [False, False]


def test_what_is_no_function_is_seen_from_the_first_look_on(project: Path) -> None:
    program = f"""
answer += [changed()]
write({MINE!r}.replace("LIMIT = 3", "LIMIT = 4"))
answer += [changed(), changed()]
importlib.reload(mine)
answer += [changed()]
"""
    assert ask(HAS_CHANGED + program, project) == [False, True, True, False]


def test_what_a_tool_has_made_of_a_source_is_not_judged(project: Path) -> None:
    """pytest writes the functions of tests anew when it imports them."""
    program = f"""
from importlib.machinery import SourceFileLoader
class Tool(SourceFileLoader): pass
mine.__spec__.loader = Tool("mine", mine.__file__)
write({MINE!r}.replace("x + 1", "x - 1"))
answer += [changed()]
"""
    assert ask(HAS_CHANGED + program, project) == [False]
