"""What leaves for one request: bytes, and what they need."""

import functools
import logging
import operator
import pathlib
from pathlib import Path

import pytest

from sheepdog.bundle.outgoing import Outgoing
from tests import local
from tests.bundle.projects import ask, write
from tests.faults import fault
from tests.local import pids

pytestmark = pytest.mark.slow  # each test starts a Python

START = "from sheepdog.bundle.outgoing import NOTHING, Outgoing\nout = Outgoing()\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {"mine.py": "X = 1\ndef f(): return X\n", "other.py": "def g(): return 1\n"})


def test_nothing_is_needed_of_a_script_alone(project: Path) -> None:
    program = START + "out.dump(lambda: 1), out.dump([1]); answer = out.look() is NOTHING"
    assert ask(program, project) is True


def test_the_same_while_nothing_changes_and_anew_with_each_state(project: Path) -> None:
    program = (
        START
        + """
import mine
seen = []
for mine.X in (1, 1, 2, 1):
    out.dump(mine.f)
    seen.append(out.look().before)
answer = [seen.index(each) for each in seen], sorted(len(path) for path in out.look().files)
"""
    )
    assert ask(program, project) == ([0, 0, 2, 0], [64, 72])


def test_what_is_needed_grows(project: Path) -> None:
    """A later bundle has what an earlier one has, so that what needs either runs in one process."""
    program = (
        START
        + """
import mine
out.dump(mine.f)
first, modules = out.look(), set(out.found.modules)
import other
out.dump(other.g)
answer = modules, out.look().before != first.before, set(out.found.modules)
"""
    )
    assert ask(program, project) == ({"mine"}, True, {"mine", "other"})


def test_facts_are_said_once(project: Path) -> None:
    program = (
        START
        + """
import pathlib, warnings
import mine
out.dump(mine.f)
pathlib.Path("mine.py").write_text("def f(): return 3")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    out.look()
    again = Outgoing()
    again.dump(mine.f)
    again.look()
answer = [str(each.message).partition(" has changed")[1] for each in said]
"""
    )
    assert ask(program, project) == [" has changed"]


def test_each_change_of_a_file_is_said(project: Path) -> None:
    program = (
        START
        + """
import importlib, pathlib, warnings
import mine
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for number in range(3):
        out.dump(mine.f)
        out.look()
        pathlib.Path("mine.py").write_text(f"X = {number}\\ndef f(): return X, {number}")
        out = Outgoing()
        out.dump(mine.f)
        out.look()
        importlib.reload(mine)
answer = [str(each.message).partition(" has changed")[1] for each in said]
"""
    )
    assert ask(program, project) == [" has changed"] * 3


@pytest.mark.parametrize(("again", "number"), [("", 4), ("again=float('inf')", 1)], ids=["executor", "imap"])
@fault(
    "own modules", "a module is loaded anew between two calls of an executor", promise="the next call has the new one"
)
def test_a_module_that_is_loaded_anew_is_looked_at_at_once(project: Path, again: str, number: int) -> None:
    """But the code of imap is that of its submission."""
    program = (
        START
        + f"out = Outgoing({again})\n"
        + """
import importlib, pathlib
import mine
seen = []
for number in range(4):
    pathlib.Path("mine.py").write_text(f"X = 1\\ndef f(): return {number}")
    importlib.reload(mine)
    out.dump(mine.f)
    seen.append(out.look().before)
answer = len(set(seen))
"""
    )
    assert ask(program, project) == number


def test_the_way_to_what_cannot_travel_begins_with_its_name(project: Path) -> None:
    program = (
        START
        + """
import threading
config = {"a": threading.Lock()}
def f(): return config
answer = []
for value in (f, (([config],), {}), ((), {"x": config})):
    try:
        out.dump(value)
    except Exception as error:
        answer.append(str(error).partition("(")[2])
"""
    )
    assert ask(program, project) == [
        "f -> config -> ['a'], a _thread.lock, in <string>)",
        "arguments -> [0] -> [0] -> ['a'], a _thread.lock)",
        "arguments -> ['x'] -> ['a'], a _thread.lock)",
    ]


@pytest.mark.usefixtures("place")
def test_a_warning_points_at_the_line_of_the_user(project: Path) -> None:
    program = (
        START
        + """
import pathlib, sheepdog, warnings
import mine
pathlib.Path("mine.py").write_text("def f(): return 3")
def call(args):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sheepdog.map(mine.f, args, verbose=False)
    return said
said = call([()])
answer = [(each.filename, each.lineno) for each in said]
"""
    )
    assert ask(program, project) == [("<string>", 10)]


@pytest.mark.parametrize(
    ("value", "by_value"),
    [
        (pids, False),
        (local, False),
        ([abs, operator.itemgetter(1), pathlib.Path("x"), logging.getLogger("x")], False),
        (functools.partial(pids, "x"), False),
        ([pathlib.Path("x").exists, pathlib.Path.home], False),
        (lambda: 1, True),
        ([functools.partial(lambda: 1)], True),
        (type("Made", (), {}), True),
        (pids.__code__, True),
        ({}.keys(), True),
    ],
)
def test_whether_anything_goes_by_value_is_noted(value: object, by_value: bool) -> None:
    """If nothing does, any Python can load it."""
    outgoing = Outgoing()
    outgoing.dump(value)
    assert outgoing.needs.by_value == by_value
