"""Own modules that import this library, where it is not."""

import subprocess
import sys

import pytest

from tests.local import ROOT

pytestmark = pytest.mark.slow  # each test starts a Python

PROGRAM = f"""
import importlib, sys, types
sys.path.insert(0, {str(ROOT / "src/sheepdog")!r})
from client.stand_in import StandIns
from client.job import JobBase
StandIns().start()
"""


def run(program: str) -> str:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM + program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_modules_do_with_it_at_the_top() -> None:
    assert (
        run("""
import sheepdog, gridengine
import sheepdog.errors as errors
from sheepdog import Config, Executor, Job, map
from sheepdog.errors import TaskFailed
class Mine(sheepdog.Job): pass
def f() -> sheepdog.Config: pass
try:
    raise KeyError
except (sheepdog.TaskFailed, TaskFailed):
    print("no")
except KeyError:
    print(issubclass(Mine, JobBase), Job is sheepdog.Job, errors.TaskFailed is TaskFailed)
    print(hasattr(sheepdog, "__nothing__"))
""")
        == "True True True\nFalse"
    )


def test_a_call_is_an_error_with_a_sentence() -> None:
    assert (
        run("""
import sheepdog
try:
    sheepdog.map(print, [1], config={})
except RuntimeError as error:
    print(error)
""")
        == "sheepdog.map cannot be used in a task: there is no sheepdog on a worker"
    )


def test_other_modules_are_not_found() -> None:
    assert (
        run("""
try:
    import sheepdog_of_others
except ImportError:
    print("not found")
""")
        == "not found"
    )
